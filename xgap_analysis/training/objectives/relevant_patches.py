"""Patches that a caption speaks of: which they are, and an image rebuilt where they are hidden (SyCoCa)."""

import math

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.attention import attention, widened
from xgap_analysis.scoring.reductions import Reduction, top
from xgap_analysis.scoring.tokens import TokenBlock
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective

GRID = 4  # colours across a patch, and down


def relevance(patches: TokenBlock, words: TokenBlock) -> Float[Tensor, "n p"]:
    """How much each patch is spoken of: its largest cosine with a word of its caption, without gradient.

    Args:
        patches, words: of n pairs by index.

    Source: Ma et al., SyCoCa, 2024.
    """
    values = (patches.vectors @ words.vectors.transpose(1, 2)).detach()
    return Reduction("max")(values, words.mask[:, None], 2)


def most_relevant(relevance: Float[Tensor, "n p"], mask: Bool[Tensor, "n p"], share: float) -> Bool[Tensor, "n p"]:
    """Marks of the share of the patches that are spoken of most, one at least; of equal ones, the first.

    Its complement are the patches that are spoken of least: at one half and an even number both are as many.

    Args:
        relevance: of each patch.
        mask: which patches there are.
        share: above 0, at most 1.

    Raises:
        XgapError: another share.

    Example:
        >>> import torch
        >>> most_relevant(torch.tensor([[0.1, 0.9, 0.5, 0.2]]), torch.ones(1, 4, dtype=torch.bool), 0.5).tolist()
        [[False, True, True, False]]
    """
    if not 0 < share <= 1:
        raise XgapError(f"a share of patches is above 0 and at most 1, not {share}")
    return top(relevance, mask, 1, max(1, round(share * relevance.shape[1]))) & mask


def patchwise(pixels: Float[Tensor, "n c h w"], patches: int) -> tuple[int, int]:
    """Rows and columns of the grid of patches of an image.

    Raises:
        XgapError: patches that are no grid of it.
    """
    height, width = pixels.shape[2:]
    rows = round(math.sqrt(patches * height / width))
    if not rows or patches % rows or height % rows or width % (patches // rows):
        raise XgapError(f"{patches} patches are no grid of an image of {height} x {width}: masked patches need a ViT")
    return rows, patches // rows


def without_patches(pixels: Float[Tensor, "n c h w"], hidden: Bool[Tensor, "n p"]) -> Float[Tensor, "n c h w"]:
    """Images with some patches of the mean colour (0 after a tower's normalisation).

    Args:
        pixels: as a tower takes them.
        hidden: which patches, row by row of the image.
    """
    rows, columns = patchwise(pixels, hidden.shape[1])
    grid = hidden.view(-1, 1, rows, columns)
    over = grid.repeat_interleave(pixels.shape[2] // rows, 2).repeat_interleave(pixels.shape[3] // columns, 3)
    return pixels.masked_fill(over, 0)


def colours(pixels: Float[Tensor, "n c h w"], patches: int) -> Float[Tensor, "n p e"]:
    """The colours of each patch on a grid of 4 x 4, e = 16 c numbers.

    Args:
        pixels: as a tower takes them.
        patches: number of them in an image.
    """
    rows, columns = patchwise(pixels, patches)
    small = adaptive_avg_pool2d(pixels, (rows * GRID, columns * GRID)).unflatten(3, (columns, GRID))
    return small.unflatten(2, (rows, GRID)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class PatchPainter(nn.Module):
    """Patches that read the words of a caption by one attention, then a small network that gives their colours.

    Args:
        sizes: d of the tokens.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d = sizes.dim
        self.query, self.key, self.value = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.paint = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, 3 * GRID**2))

    def forward(self, patches: Float[Tensor, "n p d"], words: TokenBlock) -> Float[Tensor, "n p e"]:
        """The colours of each patch, by what is left of the image and by the caption."""
        wide, text = widened(patches), widened(words.vectors)
        read = attention(self.query(wide), self.key(text), self.value(text), words.mask)
        out: Tensor = self.paint(wide + read)
        return out


def masked_patches_loss(
    painted: Float[Tensor, "n p e"], pixels: Float[Tensor, "n c h w"], hidden: Bool[Tensor, "n p"]
) -> Float[Tensor, ""]:
    """The mean squared error of the colours of hidden patches; 0 where each is right.

    Args:
        painted: the colours that are given for each patch; those of patches that are not hidden do not count.
        pixels: the whole images.
        hidden: which patches.

    Source: Ma et al., SyCoCa, 2024.
    """
    error = (painted - colours(pixels, hidden.shape[1])).square().mean(dim=2)
    return error[hidden].mean()


@register_objective(
    "masked-patches",
    needs=Needs(image_tokens=True, text_tokens=True, pixels=True, towers=True),
    parameters=PatchPainter,
)
def _masked_patches(batch: BatchFeatures, own: PatchPainter, *, share: float = 0.5) -> Tensor:
    """Prediction of the patches that a caption describes, from the caption and the other patches (SyCoCa).

    Example:
        >>> import xgap_analysis as xg
        >>> needs = xg.objective("masked-patches(share=0.25)").needed
        >>> needs.image_tokens, needs.text_tokens, needs.pixels, needs.towers
        (True, True, True, True)
    """
    patches, words, pixels = (batch.needed(name) for name in ("image_tokens", "text_tokens", "pixels"))
    hidden = most_relevant(relevance(patches, words), patches.mask, share)
    left = batch.needed("towers").image(without_patches(pixels, hidden))[1]
    return masked_patches_loss(own(left, words), pixels, hidden)
