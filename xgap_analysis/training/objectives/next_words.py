"""Words of a caption that a language model predicts from an image and from what came before (VladVA)."""

import torch
from jaxtyping import Int
from torch import Tensor

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import Needs, register_objective


def longest(ids: Int[Tensor, "n k length"]) -> Int[Tensor, "n length"]:
    """The caption of each item with most tokens, the first of several; padding is -1.

    Example:
        >>> longest(torch.tensor([[[4, -1, -1], [5, 6, -1]], [[7, 8, -1], [9, 9, -1]]])).tolist()
        [[5, 6, -1], [7, 8, -1]]
    """
    chosen = (ids >= 0).sum(dim=2).argmax(dim=1)
    return ids[torch.arange(len(ids), device=ids.device), chosen]


def _needs(*, k: int = 1) -> Needs:
    return Needs(captions=k, pixels=True, ids=True, towers=True, reader=True)


@register_objective("next-words", needs=_needs)
def _next_words(batch: BatchFeatures, *, k: int = 1) -> Tensor:
    """Prediction of each word of the longest of k captions, from its image and the words before it (VladVA).

    It is of an adapter whose language model reads images: `vladva`, `mm-embed`. The contrast looks at all captions.

    Example:
        >>> import xgap_analysis as xg
        >>> needs = xg.objective("next-words(k=2)").needed
        >>> needs.captions, needs.reader
        (2, True)
    """
    ids = longest(batch.needed("ids")[:, :k])
    made: Tensor = batch.needed("towers").next_words(batch.needed("pixels"), ids)
    return made
