"""Frozen in Time: attention over time beside that over space, begun at the image tower."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.tower import Model
from xgap_analysis.models.video.plain import copied_vit, embedded, fed, headed
from xgap_analysis.models.video.tower import register_frames

Attend = Callable[[Tensor, Tensor], Tensor]  # (what reads [n, q, width], what is read [n, t, width])


class SpaceTime(nn.Module):
    """See `space_time`."""

    def __init__(self, visual: Any, frames: int) -> None:
        super().__init__()
        self.visual = visual.requires_grad_(True)
        width = visual.class_embedding.shape[0]
        self.time = nn.Parameter(torch.zeros(frames, width))
        blocks = visual.transformer.resblocks
        self.norms = nn.ModuleList(copy.deepcopy(block.ln_1) for block in blocks)
        self.over_time = nn.ModuleList(_silent(width, block.attn.num_heads) for block in blocks)

    def forward(self, pixels: Float[Tensor, "n f 3 h w"]) -> Float[Tensor, "n d"]:
        """The feature of the one class token of each clip, not normalised.

        Raises:
            XgapError: more frames than the tower knows times of.
        """
        n, f = pixels.shape[:2]
        if f > len(self.time):
            raise XgapError(f"space_time was made for {len(self.time)} frames, not {f}; make it with more")
        times = self.time[:f].repeat(n, 1)[:, None]
        x = embedded(self.visual, pixels.flatten(0, 1), times).unflatten(0, (n, f))
        own, patches = x[:, 0, :1], x[:, :, 1:]  # the class token is the same in all frames before the first block
        for block, norm, attention in zip(self.visual.transformer.resblocks, self.norms, self.over_time, strict=True):
            over_time = _divided(norm(own), norm(patches).transpose(1, 2), _reading(attention))
            then = own + over_time[0], patches + over_time[1].transpose(1, 2)
            over_space = _divided(block.ln_1(then[0]), block.ln_1(then[1]), _reading(block.attn))
            # What is added to is the block's input, and not what attention over time made of it.
            own, patches = (fed(block, x + block.ls_1(o)) for x, o in zip((own, patches), over_space, strict=True))
        return headed(self.visual, self.visual.ln_post(own[:, 0]))


def _divided(
    own: Float[Tensor, "n 1 width"], groups: Float[Tensor, "n g t width"], attend: Attend
) -> tuple[Float[Tensor, "n 1 width"], Float[Tensor, "n g t width"]]:
    """Attention of each group to itself and to the class token, and of the class token to all."""
    n, g = groups.shape[:2]
    everything = torch.cat([own, groups.flatten(1, 2)], dim=1)
    beside = torch.cat([own[:, None].expand(-1, g, -1, -1), groups], dim=2).flatten(0, 1)
    return attend(own, everything), attend(groups.flatten(0, 1), beside).unflatten(0, (n, g))


def _silent(width: int, heads: int) -> nn.MultiheadAttention:
    """Attention that adds nothing yet: its queries, keys and values are zero."""
    made = nn.MultiheadAttention(width, heads, batch_first=True)
    nn.init.zeros_(made.in_proj_weight)
    nn.init.zeros_(made.in_proj_bias)
    return made


def _reading(attention: nn.Module) -> Attend:
    """Attention as a function, as open_clip's blocks have it."""

    def attend(reads: Tensor, of: Tensor) -> Tensor:
        made: Tensor = attention(reads, of, of, need_weights=False)[0]
        return made

    return attend


@register_frames("space_time", frames=4)
def space_time(model: Model, *, frames: int = 4) -> SpaceTime:
    """Attention over space and over time in turn, with one class token a clip, begun at the image tower.

    In each block, a patch reads the patches of its place in all frames and the class token (time), then the patches of
    its own frame and the class token (space); the class token reads all, both times. What space adds joins the input of
    the block, and not the output of time. Queries, keys and values over time begin at zero, and so do the vectors of
    the times that are added to the patches: at first the tower does not know an order, and one frame has the image's
    feature, to rounding. All weights of the copy are trained; a clip is searched by one vector, whatever the text.

    A tower that was fitted with fewer frames reads more of them as well: the further times are zero (the curriculum of
    `training.fit_frames`).

    Left out: its text tower and 256-dimensional projections (the model's own stand in their place), random sampling of
    frames, and sliding windows over long videos.

    Args:
        model: with a ViT of open_clip.
        frames: the most that it can read.

    Raises:
        XgapError: fewer frames than one, or an image tower of another kind.

    Source: Bain et al., Frozen in Time: a joint video and image encoder for end-to-end retrieval, ICCV 2021.
    """
    if not isinstance(frames, int) or frames < 1:
        raise XgapError(f"space_time reads one frame or more, not {frames!r}")
    return SpaceTime(copied_vit(model), frames)
