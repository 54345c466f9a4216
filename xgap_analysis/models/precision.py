"""The precision in which towers compute: float32, or half precision by autocast."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_FULL = ContextVar("whether autocast is off, whatever a tower says", default=False)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast in one of the precisions of `AUTOCAST`; for `"fp32"`, whatever is in force already."""
    if _FULL.get():
        return torch.autocast(device.type, enabled=False)
    dtype = AUTOCAST[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within, in this thread, towers compute in float32."""
    before = _FULL.set(True)
    try:
        yield
    finally:
        _FULL.reset(before)


__all__ = ["AUTOCAST", "autocast", "full_precision"]
