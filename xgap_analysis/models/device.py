"""The device that a model is to compute on."""

from typing import Any

import torch

from xgap_analysis.core.errors import XgapError


def chosen_device(device: Any = None) -> torch.device:
    """The device of this name, if this machine has it; without a name CUDA where there is one, else the CPU.

    Raises:
        XgapError: no such device here.
    """
    if device is None or device == "":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
        if where.type == "meta":
            raise ValueError("meta tensors hold no numbers")
        torch.zeros(1, device=where).cpu()
    except Exception as error:  # torch raises another kind for each: no such word, not compiled in, no such number
        raise XgapError(
            f"there is no device {str(device)!r} on this machine; it has {', '.join(_present())}"
        ) from error
    return where


def _present() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


__all__ = ["chosen_device"]
