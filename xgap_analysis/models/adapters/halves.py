"""Copies of models in which the weights of matrix products are in half precision, made once and not at each pass.

Autocast casts each weight of a product at each pass. In a copy they are cast already; norms, embeddings, positions and
the logit scale stay float32, and share their memory with the model's own, which does not change. Measured on a
processor (`tests/models/test_halves.py`): with bfloat16 the cosine to the features in float32 is above .9998, image
features are those of autocast, bit for bit, and a copy wholly in half precision is no nearer and no further.
"""

import copy
import threading
import weakref
from typing import Any

import torch
from torch import nn

from xgap_analysis.models.locks import lock_of
from xgap_analysis.models.precision import AUTOCAST

Module = Any  # a module of open_clip; what it is made of has no static types
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)

_COPIES: "weakref.WeakKeyDictionary[Any, dict[torch.dtype, Module]]" = weakref.WeakKeyDictionary()
_MAKING = threading.Lock()


def with_half_weights(module: Module, precision: str) -> Module:
    """The copy of a model for a precision, kept as long as the model is; the model itself for `"fp32"`.

    It costs half of the memory of the model's weights. A model whose weights change afterwards must not be asked for
    one: see `Tower`, which is frozen.
    """
    dtype = AUTOCAST[precision]
    if dtype is None:
        return module
    with lock_of(module):  # within another thread's pass it may show other parts
        with _MAKING:
            kept = _COPIES.setdefault(module, {})
        if dtype not in kept:
            kept[dtype] = _copied(module, dtype)
        return kept[dtype]


def _copied(module: Module, dtype: torch.dtype) -> Module:
    """A deep copy of a module's structure, over the same tensors but for the weights of products."""
    held = [(part, own) for part in module.modules() for own in part.parameters(recurse=False)]
    exact = {id(own) for part, own in held if not isinstance(part, PRODUCTS)}  # a table that is a head, too, stays
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    for _, own in held:
        if id(own) not in memo:
            cast = own.detach() if id(own) in exact else own.detach().to(dtype)
            memo[id(own)] = nn.Parameter(cast, requires_grad=False)
    return copy.deepcopy(module, memo)
