"""The precision in which towers compute: float32, or half precision by autocast."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch

from xgap_analysis.core.errors import XgapError

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
ONLY_FLOAT32 = frozenset({"mps"})  # devices whose autocast lacks what towers need
_FULL = ContextVar("whether autocast is off, whatever a tower says", default=False)


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


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within, in this thread, towers compute in float32."""
    before = _FULL.set(True)
    try:
        yield
    finally:
        _FULL.reset(before)


__all__ = ["AUTOCAST", "autocast", "check_precision", "full_precision"]
