"""A start that is computed, not drawn: the pseudo-tokens which a linear model of the tower sends to the target."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from xgap_analysis.core.precision import exact
from xgap_analysis.views.inversion.loop import unit_features

RIDGE = 1e-3  # of the mean squared row of the Jacobian: directions that the tower hardly uses are left alone
NORMS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # lengths that are tried for the computed direction, per pseudo-token


class ClosedForm:
    """Gauss and Newton's first step from the zero token, with the length that does best.

    With `f(v) = f(0) + J v` near zero, the ridge solution of `f(v) = |f(0)| target` is `J' (J J' + l I)^-1 (...)`. The
    text projection's pseudo-inverse is part of J's; the towers' blocks between a token and the pooled position are the
    rest of it. The Jacobian costs as much as d passes of one item, once; each item then costs a few passes.

    Args:
        forward: tokens `[n, count, width]` to features `[n, d]`, differentiable.
        count, width: of an item's tokens.
        device: where to compute.

    Source: the idea of a pseudo-inverse in place of an optimisation, SeMoBridge, 2025 (arXiv 2509.26036), which
    inverts the projection alone; the linear model of the whole tower is this package's.
    """

    def __init__(
        self, forward: Callable[[Tensor], Tensor], count: int, width: int, device: torch.device, batch_size: int = 64
    ) -> None:
        self._forward, self._shape, self._device = forward, (count, width), device
        with torch.inference_mode(False), torch.enable_grad():
            zero = torch.zeros(1, count, width, device=device)
            self._origin = exact(forward(zero).detach()[0])
            rows = []
            for part in torch.arange(len(self._origin), device=device).split(batch_size):
                tokens = zero.repeat(len(part), 1, 1).requires_grad_()
                chosen = forward(tokens).gather(1, part[:, None]).sum()
                rows.append(torch.autograd.grad(chosen, tokens)[0].flatten(1))
        self._jacobian = exact(torch.cat(rows))  # [d, count * width]
        gram = self._jacobian @ self._jacobian.T
        self._gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    def starts(self, targets: Tensor) -> Tensor:
        """Starting tokens `[n, count, width]` for targets `[n, d]`; an item's does not depend on the others."""
        targets = F.normalize(targets.to(self._device), dim=1)
        wanted = self._origin.norm() * exact(targets) - self._origin
        found = (torch.linalg.solve(self._gram, wanted.T).T @ self._jacobian).float().to(self._device)
        found = F.normalize(found, dim=1).unflatten(1, self._shape)
        tried = torch.stack([found * (norm * self._shape[0] ** 0.5) for norm in NORMS])
        cosine = torch.stack([(unit_features(self._forward, t) * targets).sum(dim=1) for t in tried])
        return tried[cosine.argmax(dim=0), torch.arange(len(targets), device=targets.device)]
