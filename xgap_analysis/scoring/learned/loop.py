"""The one loop that fits the weights of a scorer to pairs."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError

HIGHEST_SCALE = math.log(100)  # as CLIP limits it
START = math.log(1 / 0.07)

Loss = Callable[[Any, Any], Tensor]


class Pairs(Protocol):
    """What a fit draws from: batches of a query part and a gallery part, whose rows belong together."""

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        ...

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Any, Any]]:
        """One epoch."""
        ...


class Scale(nn.Module):
    """The learned factor that scores are multiplied by before a softmax, at most 100."""

    def __init__(self, start: float = START) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(start))

    def forward(self) -> Tensor:
        """The factor."""
        return self.log.exp()

    @torch.no_grad()
    def limit(self) -> None:
        """After an update: back to the limit, where the gradient still reaches it."""
        self.log.clamp_(max=HIGHEST_SCALE)


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Weights and dropout that are drawn inside follow from the seed, and nothing outside changes.

    Gives a generator for batches.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def descend(
    module: nn.Module,
    loss: Loss,
    pairs: Pairs,
    generator: torch.Generator,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> tuple[float, ...]:
    """Fit the weights of a module by AdamW, at a constant rate.

    Norms, biases and single numbers do not decay.

    Args:
        module: left in evaluation mode, without gradients, on the device of the pairs.
        loss: of a batch of pairs: row i of the query belongs to row i of the gallery.
        pairs: what it is fitted to.
        generator: of the batches.
        epochs: rounds over the items; 0 keeps the weights that the module has.
        batch: pairs at a time.
        learning_rate, weight_decay: of AdamW.

    Returns:
        The mean loss of each epoch.

    Raises:
        XgapError: an option out of range, or a loss that is no number.
    """
    if epochs < 0 or batch < 2 or learning_rate <= 0 or weight_decay < 0:
        raise XgapError("a fit needs epochs of 0 or more, a batch of 2 or more, and a learning rate greater than 0")
    module.to(pairs.device).train()
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)
    curve = []
    with torch.enable_grad():
        for _ in range(epochs):
            values = []
            for query, gallery in pairs.batches(batch, generator):
                optimiser.zero_grad(set_to_none=True)
                value = loss(query, gallery)
                if not bool(torch.isfinite(value)):
                    raise XgapError(f"the loss of the fit is {value.item()}; take a lower learning rate")
                value.backward()
                optimiser.step()
                for part in module.modules():
                    if isinstance(part, Scale):
                        part.limit()
                values.append(value.item())
            if not values:
                raise XgapError("a fit contrasts pairs, and no two of these have different queries and different items")
            curve.append(sum(values) / len(values))
    module.eval().requires_grad_(False)
    return tuple(curve)
