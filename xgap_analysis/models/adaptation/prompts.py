"""Learned tokens: in both towers at several depths, those of images made from texts (MaPLe), or of images alone."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, blocks_of, embedded, first_word, shown, width_of
from xgap_analysis.models.adaptation.part import Part, Passing
from xgap_analysis.models.shadows import Shadow


class TextPrompts(Part):
    """Tokens in place of the first words of each caption, before the positions are added, and of what becomes of them.

    Args:
        first: `[n, a]`, before the first block.
        depth: blocks before which there are some, the first included.
        start: position of the first word.
        template: a caption of which `{}` is what is said; its first n words are what `first` starts from.
    """

    def __init__(self, first: Tensor, depth: int, start: int, template: str) -> None:
        super().__init__()
        self.ctx = nn.Parameter(first)
        self.deep = nn.ParameterList([nn.Parameter(0.02 * torch.randn(first.shape)) for _ in range(depth - 1)])
        self.start, self.template = start, template

    def captions(self, captions: Sequence[str]) -> list[str]:
        """The captions in the template, but for those that begin as it does."""
        opening = " ".join(self.template.split()[: len(self.ctx)]).lower()
        return [
            caption if f"{caption.lower()} ".startswith(f"{opening} ") else self.template.replace("{}", caption)
            for caption in captions
        ]

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        owner, name, blocks = blocks_of(module, "text")
        text = getattr(module, "text", module)
        return [
            (text, "token_embedding", Passing(text.token_embedding, behind=lambda x: self._put(self.ctx, x))),
            shown(owner, name, [self._before(i, block) for i, block in enumerate(blocks)]),
        ]

    def _before(self, i: int, block: Any) -> Any:
        if not 1 <= i <= len(self.deep):
            return block
        return Passing(block, before=lambda x: self._put(self.deep[i - 1], x))

    def _put(self, prompt: Tensor, x: Tensor) -> Tensor:
        own = prompt.to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, : self.start], own, x[:, self.start + len(prompt) :]], dim=1)


class PatchPrompts(Part):
    """Tokens behind the patches, anew before each of the first blocks; they are taken away behind the last block."""

    @property
    def count(self) -> int:
        """Tokens before each block."""
        raise NotImplementedError

    @property
    def depth(self) -> int:
        """Blocks before which there are some."""
        raise NotImplementedError

    def prompt(self, i: int) -> Tensor:
        """The tokens `[n, b]` before block i."""
        raise NotImplementedError

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        owner, name, blocks = blocks_of(module, "image")
        wrapped: list[Any] = list(blocks)
        for i in range(1, self.depth):
            wrapped[i] = Passing(wrapped[i], before=partial(self._again, i))
        wrapped[-1] = Passing(wrapped[-1], behind=lambda x: x[:, : -self.count])
        native = name == "resblocks"  # of open_clip's own ViT; timm's has its norm under another name
        before, attribute = (module.visual, "ln_pre") if native else (owner, "norm_pre")
        norm = getattr(before, attribute)
        return [
            (before, attribute, Passing(norm, before=lambda x: torch.cat([x, self._of(0, x)], dim=1))),
            shown(owner, name, wrapped),
        ]

    def _again(self, i: int, x: Tensor) -> Tensor:
        return torch.cat([x[:, : -self.count], self._of(i, x)], dim=1)

    def _of(self, i: int, x: Tensor) -> Tensor:
        return self.prompt(i).to(x.dtype).expand(len(x), -1, -1)


class ImagePrompts(PatchPrompts):
    """Tokens behind the patches, each a linear map of a token of the texts.

    Args:
        texts: whose tokens they are made of.
        width: of an image token, b.
    """

    def __init__(self, texts: TextPrompts, width: int) -> None:
        super().__init__()
        a, depth = texts.ctx.shape[1], 1 + len(texts.deep)
        self.texts = texts
        self.maps = nn.ModuleList([nn.Linear(a, width) for _ in range(depth)])

    @property
    def count(self) -> int:
        """See `PatchPrompts`."""
        return len(self.texts.ctx)

    @property
    def depth(self) -> int:
        """See `PatchPrompts`."""
        return len(self.maps)

    def prompt(self, i: int) -> Tensor:
        """See `PatchPrompts`."""
        made: Tensor = self.maps[i](self.texts.ctx if i == 0 else self.texts.deep[i - 1])
        return made


class FreePrompts(PatchPrompts):
    """Tokens behind the patches that are learned as they are, before the first block.

    Args:
        prompts: `[n, b]`, what they start from.
    """

    depth = 1

    def __init__(self, prompts: Tensor) -> None:
        super().__init__()
        self.prompts = nn.Parameter(prompts)

    @property
    def count(self) -> int:
        """See `PatchPrompts`."""
        return len(self.prompts)

    def prompt(self, i: int) -> Tensor:
        """See `PatchPrompts`."""
        return self.prompts


@register_adapter("maple", place="tokens", starts_as_base=())
def maple(
    base: Backbone, *, length: int = 2, depth: int = 9, template: str = "a photo of a {}"
) -> Mapping[str, nn.Module]:
    """Learned prompts in both towers at several depths; image prompts are linear maps of text prompts (MaPLe).

    Captions are read in a template, whose first words are replaced by learned tokens; before each of the next blocks
    what became of these is replaced again. Behind the patches stand as many tokens, made from those of the texts. With
    `depth=1` texts start as the base's features of the template; image features change, as tokens are added.

    Args:
        base: a model with transformers of open_clip's or timm's.
        length: tokens n of a prompt.
        depth: blocks J before which there are prompts, the first included; of towers of widths a and b they have
            `J (n a + a b + b)` parameters.
        template: of captions that do not begin as it does.

    Raises:
        XgapError: a depth above that of a tower, or a template with fewer words than a prompt.

    Source: Khattak et al., MaPLe: multi-modal prompt learning, CVPR 2023.
    """
    most = min(len(blocks_of(base.module, modality)[2]) for modality in ("text", "image"))
    if not 1 <= depth <= most:
        raise XgapError(f"maple enters 1 to {most} blocks of this model (depth), not {depth}")
    start, rows = first_word(base), embedded(base, template.replace("{}", "x"), length)
    if length < 1 or len(template.partition("{}")[0].split()) < length or "{}" not in template:
        raise XgapError(f"the template of maple has {length} words or more before {{}}, not {template!r}")
    texts = TextPrompts(rows, depth, start, template)
    return {"image": ImagePrompts(texts, width_of(base.module, "image")), "text": texts}


@register_adapter("image-prompts", place="tokens", starts_as_base=())
def image_prompts(base: Backbone, *, length: int = 16) -> Mapping[str, nn.Module]:
    """Learned tokens added to the patches, before the first block of the image tower; texts do not change.

    They have no position, so that it is the same whether they stand before the patches, as the authors have them, or
    behind. NoLA trains the norms of the tower too, which stay as they are here.

    Args:
        base: a model with an image transformer of open_clip's or timm's.
        length: tokens n; they have `n b` parameters, uniform within `sqrt(6 / (p + b))` at the start, b the width of a
            token and p the numbers in a patch of pixels.

    Raises:
        XgapError: no token.

    Source: Jia et al., Visual prompt tuning, ECCV 2022; Imam et al., NoLA, 2024.
    """
    if length < 1:
        raise XgapError(f"image-prompts has 1 token or more, not {length}")
    width = width_of(base.module, "image")
    patching = next(part for part in base.module.visual.modules() if isinstance(part, nn.Conv2d))
    reach = math.sqrt(6 / (patching.weight[0].numel() + width))
    return {"image": FreePrompts(reach * (2 * torch.rand(length, width) - 1))}
