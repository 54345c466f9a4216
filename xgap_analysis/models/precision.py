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
_WITHOUT, _BEFORE = 0, True  # blocks without TF32 that are open, and what was set before the first of them


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


def tf32() -> bool:
    """Whether TF32 is on: by `torch.set_float32_matmul_precision`, or by `allow_tf32` of torch's matrix products.

    It rounds the factors of float32 products to 11 bits on NVIDIA's GPUs. Torch does without in matrix products, and
    with it in convolutions; here both are as matrix products are.
    """
    return torch.get_float32_matmul_precision() != "highest"


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
            _BEFORE = torch.backends.cudnn.allow_tf32
        _WITHOUT += 1
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        with _LOCK:
            _WITHOUT -= 1
            if not _WITHOUT:
                torch.backends.cudnn.allow_tf32 = _BEFORE


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within, in this thread, towers compute in float32."""
    before = _FULL.set(True)
    try:
        yield
    finally:
        _FULL.reset(before)


__all__ = ["AUTOCAST", "autocast", "check_precision", "full_precision", "is_full", "tf32", "without_tf32"]
