"""A small network from one space into another, trained on pairs of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.precision import exact

TAU = 0.07  # of the contrastive loss
SAME = 0.999  # cosine from which two targets are one, and no negatives of each other

Rows = Int[Tensor, " b"]


@dataclass(frozen=True)
class Perceptron:
    """Linear layers with GELU between them, in single precision; nothing is normalised.

    Args:
        layers: weight `[m, n]` and bias `[m]` of each.
    """

    layers: Sequence[tuple[Tensor, Tensor]]

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """The rows in the other space."""
        x = x.float()
        for number, (weight, bias) in enumerate(self.layers):
            x = F.linear(F.gelu(x) if number else x, weight.to(x.device), bias.to(x.device))
        return x


@dataclass(frozen=True)
class Training:
    """How a network is trained: by Adam on random batches, the learning rate falling to zero.

    Args:
        loss: `"mse"`, the squared distance from the target; `"cosine"`, one minus the cosine with it; `"contrastive"`,
            the cross entropy of its own target among those of the batch, both ways (temperature 0.07).
        depth: linear layers; with 1 the network is linear.
        steps, batch, lr: of Adam; a batch is all pairs where there are no more.
        seed: of the first weights and of the batches.
    """

    loss: str = "mse"
    depth: int = 2
    steps: int = 500
    batch: int = 256
    lr: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)
        if self.depth < 1 or self.steps < 0 or self.batch < 2 or not self.lr > 0:
            what = f"depth={self.depth}, steps={self.steps}, batch={self.batch}, lr={self.lr}"
            raise XgapError(
                f"a network has layers, a batch of 2 or more, a positive lr and no negative steps, not {what}"
            )


def trained(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], how: Training) -> Perceptron:
    """A network of layers d -> e -> ... -> e that maps each row of x near to that of y.

    With two layers it is the projector of xRAG: linear, GELU, linear, as wide as the target space.
    """
    generator = torch.Generator().manual_seed(how.seed)
    widths = [x.shape[1], *[y.shape[1]] * how.depth]
    layers = []
    for n, m in pairwise(widths):
        drawn = ((2 * torch.rand(*shape, generator=generator) - 1) * n**-0.5 for shape in ((m, n), (m,)))
        layers.append(tuple(part.to(x.device) for part in drawn))  # as torch begins its linear layers
    x, y, loss = x.float(), y.float(), LOSSES[how.loss]
    return _descended(layers, lambda network, rows: loss(network(x[rows]), y[rows]), len(x), how, generator)


def tied(network: Perceptron, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], how: Training) -> Perceptron:
    """The network trained further, by the contrastive loss, so that it maps row i of x and row i of y together."""
    x, y, generator = x.float(), y.float(), torch.Generator().manual_seed(how.seed)

    def loss(made: Perceptron, rows: Rows) -> Tensor:
        return contrastive(made(x[rows]), made(y[rows]), y[rows])

    return _descended(network.layers, loss, len(x), how, generator)


@torch.enable_grad()
def _descended(
    layers: Sequence[tuple[Tensor, ...]],
    loss: Callable[[Perceptron, Rows], Tensor],
    n: int,
    how: Training,
    generator: torch.Generator,
) -> Perceptron:
    parameters = [part.clone().requires_grad_() for layer in layers for part in layer]
    network = Perceptron(list(zip(parameters[::2], parameters[1::2], strict=True)))
    optimiser = torch.optim.Adam(parameters, lr=how.lr)
    for step in range(how.steps):
        optimiser.param_groups[0]["lr"] = how.lr * (1 - step / how.steps)
        rows = torch.randperm(n, generator=generator)[: how.batch] if n > how.batch else torch.arange(n)
        optimiser.zero_grad()
        loss(network, rows.to(parameters[0].device)).backward()
        optimiser.step()
    return Perceptron([(weight.detach(), bias.detach()) for weight, bias in network.layers])


def mse(made: Float[Tensor, "n e"], target: Float[Tensor, "n e"]) -> Tensor:
    """The squared distance of a row, mean over rows."""
    return (made - target).square().sum(dim=1).mean()


def cosine_distance(made: Float[Tensor, "n e"], target: Float[Tensor, "n e"]) -> Tensor:
    """One minus the cosine of a row, mean over rows."""
    return 1 - F.cosine_similarity(made, target, dim=1).mean()


def contrastive(
    made: Float[Tensor, "n e"], target: Float[Tensor, "n e"], known: Float[Tensor, "n d"] | None = None
) -> Tensor:
    """The cross entropy of each row's own target among all, and of each target's own row, mean of both.

    Rows whose targets are one (a caption of several images) are no negatives of each other; `known` decides that in
    place of the targets, where those are still being trained.
    """
    logits = F.normalize(made, dim=1) @ F.normalize(target, dim=1).T / TAU
    like = F.normalize(target.detach() if known is None else known, dim=1)
    eye = torch.eye(len(made), dtype=torch.bool, device=made.device)
    logits = logits.masked_fill((like @ like.T > SAME) & ~eye, -torch.inf)
    return both_ways(logits)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "cosine": cosine_distance,
    "contrastive": contrastive,
}


def in_double(network: Perceptron) -> Callable[[Tensor], Tensor]:
    """What maps rows in double precision, through the network's single precision."""
    return lambda x: exact(network(x))
