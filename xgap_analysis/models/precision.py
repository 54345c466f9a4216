"""The precision in which towers compute: float32, or half by autocast; TF32 only where torch's settings say so."""

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch

from xgap_analysis.core.errors import XgapError

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
ONLY_FLOAT32 = frozenset({"mps"})  # devices whose autocast lacks what towers need
_FULL = ContextVar("whether autocast is off, whatever a tower says", default=False)
_LOCK = threading.Lock()
_WITHOUT = 0  # blocks without TF32 that are open
_BEFORE: tuple[str, ...] = ()  # what was set before the first of them


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses a precision that there is not, or not on a device.

    Raises:
        XgapError: which there are.
    """
    if precision not in AUTOCAST:
        raise XgapError(f"precision is one of {', '.join(AUTOCAST)}, not {precision!r}")
    if precision != "fp32" and device.type in ONLY_FLOAT32:
        raise XgapError(f'on {device.type} models compute in float32: use precision="fp32", not {precision!r}')


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast in one of the precisions of `AUTOCAST`; for `"fp32"`, whatever is in force already."""
    if _FULL.get():
        return torch.autocast(device.type, enabled=False)
    dtype = AUTOCAST[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def is_full() -> bool:
    """Whether this thread is within `full_precision`."""
    return _FULL.get()


def rounding(tower: Any, device: torch.device) -> dict[str, Any]:
    """What else than `precision` decides how products are rounded, where it is not the default: part of a store's key.

    Args:
        tower: that computes; `half_weights` says whether its weights of products are a copy in half precision, where
            autocast alone rounds otherwise.
        device: where it computes.
    """
    half = {"half_weights": True} if getattr(tower, "half_weights", False) else {}
    return half | ({"tf32": True} if device.type == "cuda" and tf32() else {})


def tf32() -> bool:
    """Whether TF32 is on: by `torch.set_float32_matmul_precision`, or by `allow_tf32` of torch's matrix products.

    It rounds the factors of float32 products to 11 bits on NVIDIA's GPUs. Torch does without in matrix products, and
    with it in convolutions; here both are as matrix products are.
    """
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # set by `fp32_precision`, torch's newer name, after which the older cannot be read
        return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def _of_convolutions() -> tuple[str, ...]:
    """TF32 of convolutions and recurrent layers, as torch's older name of it says, or else its newer one."""
    cudnn: Any = torch.backends.cudnn
    try:
        return ("tf32" if cudnn.allow_tf32 else "ieee",)
    except RuntimeError:  # as in `tf32`
        return cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


def _set_convolutions(kinds: tuple[str, ...]) -> None:
    """Sets what `_of_convolutions` gave, by the name that it was read by."""
    cudnn: Any = torch.backends.cudnn
    if len(kinds) == 1:
        cudnn.allow_tf32 = kinds == ("tf32",)
    else:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = kinds


@contextlib.contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Within, convolutions on a CUDA device compute in float32, unless TF32 is on; after, as before.

    The setting is the process's: what counts as before is what was set before the first of the blocks that are open.
    """
    global _WITHOUT, _BEFORE
    if device.type != "cuda" or tf32():
        yield
        return
    with _LOCK:
        if not _WITHOUT:
            _BEFORE = _of_convolutions()
        _WITHOUT += 1
        _set_convolutions(("ieee",) * len(_BEFORE))
    try:
        yield
    finally:
        with _LOCK:
            _WITHOUT -= 1
            if not _WITHOUT:
                _set_convolutions(_BEFORE)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within, in this thread, towers compute in float32."""
    before = _FULL.set(True)
    try:
        yield
    finally:
        _FULL.reset(before)


__all__ = ["AUTOCAST", "autocast", "check_precision", "full_precision", "is_full", "rounding", "tf32", "without_tf32"]
