"""The parts of an open_clip ViT that a tower of clips passes frames through in another order than the library does."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adapters.openclip import ImageTower
from xgap_analysis.models.adapters.shortcut import is_class_token_vit
from xgap_analysis.models.tower import Model

Module = Any  # a module of open_clip; what it is made of has no static types


def copied_vit(model: Model) -> Module:
    """A copy of the image tower of a model, frozen: what is trained in it, or hooked to it, is not the model's own.

    Raises:
        XgapError: a model whose image tower is not open_clip's own ViT with a class token.
    """
    tower = model.image
    visual: Module = tower.visual if isinstance(tower, ImageTower) else None
    if not is_class_token_vit(visual):
        kind = type(tower if visual is None else getattr(visual, "trunk", visual)).__name__
        what = (
            f"frames exchange something inside a ViT of open_clip with a class token, and {model.name!r} has a {kind}"
        )
        raise XgapError(f'{what}; take the tower "mean", or a model such as tiny or ViT-B-32')
    made: Module = copy.deepcopy(visual)
    return made.eval().requires_grad_(False)


def embedded(
    visual: Module, pixels: Float[Tensor, "n 3 h w"], more: Tensor | float = 0.0
) -> Float[Tensor, "n u width"]:
    """What enters the first block: the class token, then the patches, with their positions.

    Args:
        visual: the tower.
        pixels: of frames.
        more: added to the patches beside their positions, such as `[n, 1, width]`.
    """
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2) + visual.positional_embedding[1:] + more
    own = (visual.class_embedding + visual.positional_embedding[0]).expand(len(patches), 1, -1)
    return visual.ln_pre(torch.cat([own, patches], dim=1))


def fed(block: Module, tokens: Float[Tensor, "*n t width"]) -> Float[Tensor, "*n t width"]:
    """Tokens after the second half of a block, whose network reads each by itself."""
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def headed(visual: Module, pooled: Float[Tensor, "*n width"]) -> Float[Tensor, "*n d"]:
    """Features of class tokens after the last norm."""
    return pooled if visual.proj is None else pooled @ visual.proj
