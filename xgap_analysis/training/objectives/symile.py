"""Terms of any number of modalities."""

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.contrast import clip_loss
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, register_objective

Negatives = Literal["shuffle", "all"]
MOST = 2**27  # numbers of the products of one anchor: half a GiB


def products(
    blocks: Sequence[Float[Tensor, "n d"]], anchor: int, negatives: Negatives, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Logits of one modality against products of all others, coordinate by coordinate, and the columns that are right.

    Formula: `sum over d of anchor_id prod over the others m of block_m,jd`.

    | negatives | columns |
    |---|---|
    | `shuffle` | n: the others, each in an order of its own; the right one stands in column i of row i |
    | `all` | n^(M-1): every choice of one item of each other modality; with two modalities these are all texts |

    Args:
        blocks: of M modalities, two or more; row i of each is one item.
        anchor: which of them has the rows.
        negatives: as in the table.
        generator: of the orders, on the processor.

    Returns:
        Logits `[n, n]` or `[n, n^(M-1)]`, and the right column of each row `[n]`.

    Raises:
        XgapError: fewer than two modalities, or more products than fit.

    Source: Saporta et al., Contrasting with Symile: simple model-agnostic representation learning for unlimited
    modalities, 2024, and its published code.
    """
    if len(blocks) < 2:
        raise XgapError(f"a contrast of modalities needs two of them or more, not {len(blocks)}")
    mine, others = blocks[anchor], [block for m, block in enumerate(blocks) if m != anchor]
    n, d = mine.shape
    rows = torch.arange(n, device=mine.device)
    if negatives == "all":
        if n ** len(others) * d > MOST:
            what = f"all products of {len(blocks)} modalities and {n} items of {d} dimensions do not fit"
            raise XgapError(f'{what}; take a smaller batch, or negatives="shuffle"')
        every = reduce(lambda made, block: (made[:, None] * block[None]).flatten(0, 1), others)
        return mine @ every.T, rows * sum(n**power for power in range(len(others)))
    orders = [torch.randperm(n, generator=generator).to(mine.device) for _ in others]
    mixed = reduce(torch.mul, [block[order] for block, order in zip(others, orders, strict=True)])
    right = (mine * reduce(torch.mul, others)).sum(dim=1)
    return torch.where(rows[:, None] == rows[None], right[:, None], mine @ mixed.T), rows


def symile_loss(
    blocks: Sequence[Float[Tensor, "n d"]],
    scale: Float[Tensor, ""] | float,
    negatives: Negatives = "shuffle",
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Symile: contrast of any number of modalities by the product of all their coordinates.

    Formula: the cross-entropy of `scale` times the logits of `products`, with each modality as the anchor once, and
    the mean over anchors. It compares all modalities jointly, where pairwise terms compare two at a time; with two
    modalities and all negatives it is `clip_loss`. A shuffled row may be the right one, and counts as wrong.

    Args:
        blocks: unit rows of M modalities; row i of each is one item. A product of unit rows shrinks with d and M, so
            the scale must be larger than for two.
        scale: 1 / temperature.
        negatives: `"shuffle"`, n of them a row, or `"all"`, n^(M-1).
        generator: of the shuffles, on the processor.

    Source: Saporta et al., 2024 (Symile), sections 3 and 4.

    Example:
        >>> same = torch.eye(4)[[0, 0]]
        >>> round(float(symile_loss([same] * 3, 1.0, "all")), 4)  # 2 log 2
        1.3863
    """
    each = []
    for anchor in range(len(blocks)):
        logits, target = products(blocks, anchor, negatives, generator)
        each.append(match(scale * logits, target))
    return torch.stack(each).mean()


@register_objective("symile", needs=Needs(scaled=True, extra=1))
def _symile(batch: BatchFeatures, *, negatives: Negatives = "shuffle") -> Tensor:
    """Contrast of images, texts and further modalities by the product of all their coordinates (Symile).

    Example:
        >>> import dataclasses
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = dataclasses.replace(batch, extra={"sound": unit})
        >>> round(float(xg.objective("symile(negatives=all)")(batch)), 3)
        0.0
    """
    generator, extra = batch.generator("symile"), batch.needed("extra").values()
    return batch.mean_over_pairs(
        lambda images, texts: symile_loss([images, texts, *extra], batch.scale, negatives, generator)
    )


@register_objective("pairwise-clip", needs=Needs(scaled=True, extra=1))
def _pairwise_clip(batch: BatchFeatures) -> Tensor:
    """Symmetric InfoNCE over each two of images, texts and further modalities, summed (the baseline of Symile).

    Example:
        >>> import dataclasses
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = dataclasses.replace(batch, extra={"sound": unit})
        >>> round(float(xg.objective("pairwise-clip").loss(batch)), 3)  # image, caption and sound are equal
        0.0
    """
    extra = batch.needed("extra").values()

    def loss(images: Tensor, texts: Tensor) -> Tensor:
        return torch.stack([clip_loss(a, b, batch.scale) for a, b in combinations([images, texts, *extra], 2)]).sum()

    return batch.mean_over_pairs(loss)
