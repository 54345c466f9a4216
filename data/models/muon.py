"""Muon: momentum whose update is orthogonalised (Jordan et al., 2024), for the weight matrices of the blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Muon for matrices; those of one shape are orthogonalised together.

    It needs about half of AdamW's steps here. PyTorch's own iterates in bfloat16, which is three times slower than the
    whole training step on a CPU without bfloat16 arithmetic; this one stays in float32 there.
    """

    def __init__(self, params: Sequence[Tensor], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p in params:
            by_shape.setdefault(p.shape, []).append(p)
        groups = [{"params": same} for same in by_shape.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params, beta = [p for p in group["params"] if p.grad is not None], group["momentum"]
            if not params:
                continue
            for p in params:
                self.state[p].setdefault("momentum", torch.zeros_like(p))
                self.state[p]["momentum"].lerp_(p.grad, 1 - beta)
            updates = orthogonal(torch.stack([p.grad.lerp(self.state[p]["momentum"], beta) for p in params]))
            rows, columns = params[0].shape
            for p, update in zip(params, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices `[k, m, n]` with their singular values brought near 1, by the quintic Newton-Schulz iteration with its
    published coefficients.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()
