"""Double precision where a device has it, and on the processor where it has none.

Apple's `mps` holds no float64 tensor: making one there is an error. Towers compute in float32 on it; what is counted or
compared in double precision (ranks, gaps, corrections) is computed on the processor, so that the numbers are the same
on every machine. Apple's processor and `mps` share their memory, and the move costs little.
"""

import torch
from torch import Tensor

WITHOUT_DOUBLES = frozenset({"mps"})  # types of devices


def has_doubles(device: torch.device) -> bool:
    """Whether tensors of float64 may lie on a device."""
    return device.type not in WITHOUT_DOUBLES


def widest(device: torch.device) -> torch.dtype:
    """The most precise type of a device: float64, or float32 on `mps`."""
    return torch.float64 if has_doubles(device) else torch.float32


def held(value: Tensor, device: torch.device) -> Tensor:
    """What was computed in double precision, on a device: as it is, or in float32 where that holds no doubles."""
    return value.to(device) if has_doubles(device) else value.float().to(device)


def home(device: torch.device) -> torch.device:
    """Where double precision is computed for a device: there, or on the processor."""
    return device if has_doubles(device) else torch.device("cpu")


def computable(tensor: Tensor) -> Tensor:
    """The tensor where double precision can be computed: on its device, or else on the processor."""
    return tensor.to(home(tensor.device))


def exact(tensor: Tensor) -> Tensor:
    """The tensor in double precision, on its device where that has it, or else on the processor."""
    return computable(tensor).double()
