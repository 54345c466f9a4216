"""Copies of models in which the weights of matrix products are in half precision, made once and not at each pass.

Autocast casts each weight of a product at each pass. In a copy they are cast already; norms, embeddings, positions and
the logit scale stay float32, and share their memory with the model's own, which does not change. Autocast stays on for
what is between the products. Measured on a processor, lowest cosine to the features in float32, of 48 items by `tiny`
and by `ViT-B-32/random`:

| | images, bf16 | texts, bf16 | both, fp16 |
|---|---|---|---|
| autocast over float32 weights | .99994 and .99995 | .99996 and .99996 | above .999998 |
| this copy | .99994 and .99995 | .99989 and .99991 | above .999998 |
| all of the model in half precision, no autocast | .99993 and .99995 | .99988 and .99991 | above .999998 |

So nothing is lost for images. Of texts, open_clip casts the embeddings to the type of the weights, and the sums along
the blocks are in half precision, as those of images are under autocast, too.
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

    It costs half of the memory of the model's weights. The copy does not follow
    weights that change afterwards; those of a `Tower` are frozen.
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
    with torch.inference_mode(False):  # a tensor of inference mode cannot be in a pass with gradients
        return copy.deepcopy(module, _memo(module, dtype))


def _memo(module: Module, dtype: torch.dtype) -> dict[int, Any]:
    """What `deepcopy` puts in the place of each tensor."""
    held = [(part, own) for part in module.modules() for own in part.parameters(recurse=False)]
    exact = {id(own) for part, own in held if not isinstance(part, PRODUCTS)}  # a table that is a head, too, stays
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    for _, own in held:
        if id(own) not in memo:
            cast = own.detach() if id(own) in exact else own.detach().to(dtype)
            memo[id(own)] = nn.Parameter(cast, requires_grad=False)
    return memo
