"""GRAIN: a small head that reads regions from patches, each held against the description of its box."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.late_interaction import late_interaction
from xgap_analysis.scoring.learned.attention import Reader
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.fitted import Mapped
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.tokens import TokenBlock

Boxes = Mapping[str, Sequence[Sequence[float]]]  # of each text, one box per description: left, top, right, bottom
Box = Float[Tensor, "... 4"]


class RegionHead(nn.Module):
    """Region queries and one image query, which read an image's patches, and the box of each region."""

    def __init__(self, dim: int, regions: int, layers: int, heads: int) -> None:
        super().__init__()
        self.reader = Reader(dim, regions + 1, layers, heads, 4 * dim)
        self.out = nn.Linear(dim, dim)
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 4))
        self.scale = Scale()

    def forward(self, block: TokenBlock) -> tuple[Float[Tensor, "b r d"], Float[Tensor, "b d"], Float[Tensor, "b r 4"]]:
        """Regions and images, unit vectors, and the centre, width and height of each region's box, in [0, 1]."""
        read = self.reader.of(block)
        made = normalize(self.out(read), dim=-1)
        return made[:, :-1], made[:, -1], self.box(read[:, :-1]).sigmoid()


def corners(boxes: Box) -> Box:
    """Left, top, right and bottom of boxes given by centre, width and height."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def centred(boxes: Box) -> Box:
    """Centre, width and height of boxes given by left, top, right and bottom; undone by `corners`."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def generalised_overlap(a: Box, b: Box) -> Tensor:
    """The intersection over union of boxes, less the share of the smallest box around both that neither fills.

    Args:
        a, b: left, top, right, bottom, of shapes that fit.

    Returns:
        In [-1, 1]; 1 for equal boxes.

    Source: Rezatofighi et al., Generalized intersection over union, CVPR 2019.
    """
    inner = (torch.minimum(a, b)[..., 2:] - torch.maximum(a, b)[..., :2]).clamp_min(0).prod(dim=-1)
    outer = (torch.maximum(a, b)[..., 2:] - torch.minimum(a, b)[..., :2]).prod(dim=-1)
    union = sum(((x[..., 2:] - x[..., :2]).prod(dim=-1) for x in (a, b)), -inner)
    return inner / union.clamp_min(1e-9) - (outer - union) / outer.clamp_min(1e-9)


def box_costs(found: Float[Tensor, "r 4"], given: Float[Tensor, "k 4"]) -> Float[Tensor, "r k"]:
    """`5 L1 - 2 GIoU` of each region's box with each given one.

    Args:
        found: centre, width and height.
        given: left, top, right, bottom.
    """
    distance = (found[:, None] - centred(given)).abs().sum(dim=-1)
    return 5 * distance - 2 * generalised_overlap(corners(found)[:, None], given)


def matched(costs: Float[Tensor, "r k"]) -> tuple[Tensor, Tensor]:
    """Regions and boxes, each at most once, of the least total cost."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(costs.detach().cpu().numpy())
    return torch.as_tensor(rows, device=costs.device), torch.as_tensor(columns, device=costs.device)


def region_loss(module: RegionHead, query: TokenBlock, gallery: TokenBlock, boxes: Boxes, weight: float) -> Tensor:
    """The losses of a batch; see `grain`."""
    regions, images, found = module(gallery)
    scale = module.scale()
    flat, first = query.vectors[query.mask], query.counts.cumsum(0) - query.counts  # all descriptions of the batch
    logits, true, off = [], [], []
    for i, item in enumerate(query.ids):
        given = torch.tensor(boxes[item], dtype=found.dtype, device=found.device).view(-1, 4)
        rows, columns = matched(box_costs(found[i], given))
        logits.append(scale * regions[i, rows] @ flat.T)
        true.append(first[i] + columns)
        chosen = given[columns]
        overlap = generalised_overlap(corners(found[i, rows]), chosen)
        off.append((found[i, rows] - centred(chosen)).abs().sum(dim=-1) + 1 - overlap)
    described = cross_entropy(torch.cat(logits), torch.cat(true))
    return both_ways(query.directions @ images.T, scale) + weight * torch.cat(off).mean() + described


@register_learned("grain", plain=False)
def grain(
    pairs: Paired,
    *,
    boxes: Boxes | None = None,
    regions: int = 5,
    layers: int = 2,
    heads: int = 8,
    box_weight: float = 1.5,
    read: str = "image",
    epochs: int = 10,
    batch: int = 32,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Learned:
    """A small decoder with region queries and one image query over patches; texts are sets of descriptions of boxes.

    Score: with `read="image"`, the authors' one, `mean_k cos(image, d_k)` over the descriptions of a text or class;
    with `read="regions"`, `mean_k max_r cos(region r, d_k)`, the region-description scores themselves.

    Loss: symmetric cross entropy of image and mean description, `+ box_weight * (L1 + 1 - GIoU)` of the boxes, `+` the
    cross entropy of each matched region with all descriptions of the batch, from region to description alone; all with
    one learned scale. Regions are matched to boxes by the least `5 L1 - 2 GIoU`. Regions without a box are in no loss.

    Args:
        pairs: texts with a token per description, and images with a token per patch.
        boxes: for each text, a box per description: left, top, right, bottom, as shares of the image in [0, 1].
        regions, layers, heads: of the decoder.
        box_weight: of the box losses.
        read: `"image"` or `"regions"`.
        epochs, batch, learning_rate, seed: of the fit.

    Raises:
        XgapError: no boxes, a text without as many boxes as descriptions, more boxes than regions, a box that is none,
            or another `read`.

    Source: Halbe et al., Grounding descriptions in images informs zero-shot visual recognition (GRAIN), 2024.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, images = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> boxes = {i: [[0.0, 0.0, 0.5, 1.0]] for i in "abcdef"}  # one description of each text, and its box
        >>> fitted = xg.fit_scorer("grain(regions=2, heads=2, epochs=0)", texts, images, boxes=boxes)
        >>> tuple(xg.score(texts, images, fitted).shape)
        (6, 6)
    """
    if read not in ("image", "regions"):
        raise XgapError(f"read is image or regions, not {read!r}")
    known = _checked(pairs, boxes, regions) if epochs or boxes is not None else {}  # a score reads no box
    with seeded(seed) as generator:
        module = RegionHead(pairs.dim, regions, layers, heads)

        def loss(query: TokenBlock, gallery: TokenBlock) -> Tensor:
            return region_loss(module, query, gallery, known, box_weight)

        losses = descend(module, loss, pairs, generator, epochs=epochs, batch=batch, learning_rate=learning_rate)

    def of_gallery(block: TokenBlock) -> Float[Tensor, "b r d"]:
        own, image, _ = module(block)
        return own if read == "regions" else image[:, None]

    scoring = Scorer("late_interaction", late_interaction)  # inner=max: of one token, that token
    return Learned(module, Scorer("regions", Mapped(scoring, of_gallery=of_gallery)), losses)


def _checked(pairs: Paired, boxes: Boxes | None, regions: int) -> Boxes:
    if boxes is None:
        raise XgapError("grain is fitted to boxes: give boxes, for each text one box per description")
    for row in sorted({row for of in pairs.queries_of for row in of}):
        item, count = pairs.query.ids[row], int(pairs.query.lengths[row])
        own = boxes.get(item, ())
        if len(own) != count:
            raise XgapError(f"text {item!r} has {count} descriptions and {len(own)} boxes; give one box for each")
        if count > regions:
            raise XgapError(f"text {item!r} has {count} boxes, and there are {regions} regions; take regions={count}")
        for box in own:
            if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                what = f"a box of text {item!r} is {tuple(box)}"
                raise XgapError(f"{what}; boxes are left, top, right, bottom, as shares of the image in [0, 1]")
    return boxes
