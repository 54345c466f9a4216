"""Towers of any modality that learn from their own items alone: two augmented views of each, without a counterpart."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.loop import descend, seeded
from xgap_analysis.training.objectives.contrast import simclr_loss

Augment = Callable[[Tensor], Tensor]  # inputs [b, ...] -> a view of each, drawn with torch's generator
Views = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class TwoViews:
    """Inputs of one modality or of several, whose rows are the same items, and what draws a view of them.

    Args:
        inputs: `[N, ...]` by modality.
        augment: by modality.
        device: where batches lie.
    """

    inputs: Mapping[str, Tensor]
    augment: Mapping[str, Augment]
    device: torch.device

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Views, Views]]:
        """One epoch: two views of the items, drawn anew; a batch of one item is left out."""
        n = len(next(iter(self.inputs.values())))
        for rows in torch.randperm(n, generator=generator).split(size):
            if len(rows) > 1:
                chosen = {name: of[rows].to(self.device) for name, of in self.inputs.items()}
                first, second = ({name: self.augment[name](of) for name, of in chosen.items()} for _ in range(2))
                yield first, second


def fit_two_views(
    towers: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    augment: Mapping[str, Augment],
    *,
    temperature: float = 0.5,
    epochs: int = 5,
    batch: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> tuple[float, ...]:
    """Train towers in place until two augmented views of an item are each other's nearest (NT-Xent).

    With one modality, this is the pre-training that a dual encoder lacks: what is alike within the modality is learned
    before anything is aligned. With several, all of their rows are in one softmax (`mixed`), in which the rows of the
    other modalities are negatives, those of the same item among them; to train several apart, call it once for each.
    In `train`, the objectives `image-image`, `text-text` and `mixed-views` are the same of images and captions.

    Formula: `simclr_loss` of `u(tower(augment(x)))`, twice drawn, the rows of all modalities one behind another.

    Args:
        towers: modules from inputs `[b, ...]` to features `[b, d]`, by modality. What is frozen in them stays so, and
            each part is left in the mode that it had; meanwhile all are in training mode.
        inputs: `[N, ...]` by modality; row i of each is the same item.
        augment: by modality, a function from inputs `[b, ...]` to a view of each, drawn with torch's own generator,
            which is seeded.
        temperature: of the softmax; the authors take 0.5 for sheets and 0.6 for audio.
        epochs, batch, learning_rate, weight_decay, seed: of AdamW.

    Returns:
        The mean loss of each epoch.

    Raises:
        XgapError: other modalities in one mapping than in another, other numbers of rows, a temperature that is not
            above 0, or a tower with nothing to train.

    Source: Chen et al., SimCLR, ICML 2020; Carvalho, Washüttl and Widmer, Self-supervised contrastive learning for
    robust audio-sheet music retrieval systems, ACM MMSys 2023.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> rows, tower = torch.randn(64, 6), torch.nn.Linear(6, 4)
        >>> noisy = lambda x: x + 0.3 * torch.randn(x.shape)
        >>> losses = fit_two_views({"audio": tower}, {"audio": rows}, {"audio": noisy}, batch=16, learning_rate=0.01)
        >>> losses[-1] < losses[0]
        True
    """
    if not towers or not towers.keys() == inputs.keys() == augment.keys():
        what = f"towers of {', '.join(towers)}, inputs of {', '.join(inputs)} and augment of {', '.join(augment)}"
        raise XgapError(f"each modality has a tower, inputs and a function that augments them, not {what}")
    lengths = {name: len(of) for name, of in inputs.items()}
    if len(set(lengths.values())) > 1:
        what = ", ".join(f"{n} of {name}" for name, n in lengths.items())
        raise XgapError(f"row i of each modality is the same item, and there are {what}; call it once for each")
    if temperature <= 0:
        raise XgapError(f"a temperature is above 0, not {temperature}")
    module = nn.ModuleList(towers.values())  # by place: a modality may have a name that a module has of its own
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    if not trained:
        raise XgapError("these towers have nothing to train: all of their weights are frozen")
    before = [(part, part.training) for part in module.modules()]

    def loss(first: Views, second: Views) -> Tensor:
        made = [
            torch.cat([normalize(towers[name](of), dim=-1) for name, of in view.items()]) for view in (first, second)
        ]
        return simclr_loss(made[0], made[1], temperature)

    pairs = TwoViews(inputs, augment, trained[0].device)
    try:
        with seeded(seed) as generator:
            return descend(
                module,
                loss,
                pairs,
                generator,
                epochs=epochs,
                batch=batch,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
            )
    finally:  # `descend` freezes what it has fitted, and these go on to be aligned
        for weight in trained:
            weight.requires_grad_(True)
        for part, mode in before:
            part.training = mode
