"""L-BFGS of many rows at once, each as if alone: fewer and longer steps than AdamW's for the loss of an inversion."""

import torch
from torch import Tensor

MEMORY = 20  # pairs of a row
FIRST = 2.0  # length of a row's first step
DECREASE = 1e-4  # of the decrease that the slope promises, to accept a point (Armijo)
CURVED = 1e-6  # cosine between a step and the change of gradient, from which a pair is kept
SHORTEN = 0.1, 0.5  # bounds of the factor by which a refused step is shortened


class LBFGS:
    """L-BFGS (Liu and Nocedal, 1989) on the rows of a tensor, all state on its device, so that a graph can step.

    The tensor holds the points that are tried: each pass gives loss and gradient of one point for each row, which is
    accepted if the loss falls enough (Armijo) and else refused and the step shortened, by the parabola through what is
    known. A refused point still tells the curvature. A step is one pass, accepted or not, and no row waits for others.

    Args:
        tensor: `[n, r, width]`; it is changed in place.
        memory: pairs of steps and changes of gradient kept for each row.
    """

    def __init__(self, tensor: Tensor, memory: int = MEMORY) -> None:
        self._tried, self._memory = tensor, memory
        n, size = len(tensor), tensor[0].numel()
        self._at, self._gradient, self._direction = (tensor.new_zeros(n, size) for _ in range(3))
        self._loss, self._length = tensor.new_zeros(n), tensor.new_zeros(n)
        self._steps, self._changes = (tensor.new_zeros(n, memory, size) for _ in range(2))
        self._weights = tensor.new_zeros(n, memory)  # 1 / (step . change); zero where there is no pair yet
        self._anew = torch.ones(n, dtype=torch.bool, device=tensor.device)  # rows whose direction is to be made again
        self.restart()

    @property
    def tokens(self) -> Tensor:
        """The accepted points `[n, r, width]`."""
        return self._at.view_as(self._tried)

    def restart(self) -> None:
        """Forgets what was seen so far; the tensor may hold other values now."""
        self._at.copy_(self._tried.flatten(1))
        self._loss.fill_(torch.inf)
        for state in (self._gradient, self._direction, self._steps, self._changes, self._weights):
            state.zero_()
        self._length.fill_(1.0)

    @torch.no_grad()
    def see(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Accepts or refuses the points that were tried; the losses `[n]` of the accepted ones."""
        tried, gradient = self._tried.flatten(1), gradient.flatten(1)
        slope = self._length * (self._gradient * self._direction).sum(dim=1)
        accepted = loss <= self._loss + DECREASE * slope
        step, change = tried - self._at, gradient - self._gradient
        curvature = (step * change).sum(dim=1)
        kept = curvature > CURVED * step.norm(dim=1) * change.norm(dim=1)
        for buffer, row in ((self._steps, step), (self._changes, change), (self._weights, 1 / curvature)):
            later = torch.cat([buffer[:, 1:], row[:, None]], dim=1)
            buffer.copy_(torch.where(kept.view(-1, *[1] * (buffer.ndim - 1)), later, buffer))
        excess = (loss - self._loss - slope).clamp(min=1e-12)
        shorter = self._length * (-slope / (2 * excess)).clamp(*SHORTEN).nan_to_num(SHORTEN[0])
        self._length.copy_(torch.where(accepted, 1.0, torch.where(kept, SHORTEN[1], shorter)))
        self._at.copy_(torch.where(accepted[:, None], tried, self._at))
        self._gradient.copy_(torch.where(accepted[:, None], gradient, self._gradient))
        self._loss.copy_(torch.where(accepted, loss, self._loss))
        self._anew.copy_(accepted | kept)
        return self._loss.clone()

    @torch.no_grad()
    def step(self, gradient: Tensor, active: Tensor | None = None) -> None:
        """The next points to try; rows where `active [n]` is false stay at the accepted point."""
        self._direction.copy_(torch.where(self._anew[:, None], self._newton(), self._direction))
        tried = self._at + self._length[:, None] * self._direction
        if active is not None:
            tried = torch.where(active[:, None], tried, self._at)
        self._tried.copy_(tried.view_as(self._tried))

    def _newton(self) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient, by the two loops over the pairs.

        Rows without a pair, and those whose direction would not descend, go along the gradient.
        """
        direction, parts = self._gradient, []
        for k in reversed(range(self._memory)):
            part = self._weights[:, k] * (self._steps[:, k] * direction).sum(dim=1)
            direction = direction - part[:, None] * self._changes[:, k]
            parts.append(part)
        last = self._weights[:, -1] * self._changes[:, -1].square().sum(dim=1)
        scale = torch.where(last > 0, 1 / last, FIRST / self._gradient.norm(dim=1).clamp(min=1e-12))[:, None]
        direction = scale * direction
        for k, part in enumerate(reversed(parts)):
            back = self._weights[:, k] * (self._changes[:, k] * direction).sum(dim=1)
            direction = direction + (part - back)[:, None] * self._steps[:, k]
        descends = (direction * self._gradient).sum(dim=1, keepdim=True) > 0
        return -torch.where(descends, direction, scale * self._gradient)
