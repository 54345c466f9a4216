"""Learned tokens in both towers at several depths, those of images made from those of texts (MaPLe)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, blocks_of, embedded, first_word, shown, width_of
from xgap_analysis.models.adaptation.part import Part, Passing, Shadow


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


class ImagePrompts(Part):
    """Tokens behind the patches, each a linear map of a token of the texts; they are taken away behind the last block.

    Args:
        texts: whose tokens they are made of.
        width: of an image token, b.
    """

    def __init__(self, texts: TextPrompts, width: int) -> None:
        super().__init__()
        a, depth = texts.ctx.shape[1], 1 + len(texts.deep)
        self.texts = texts
        self.maps = nn.ModuleList([nn.Linear(a, width) for _ in range(depth)])

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        owner, name, blocks = blocks_of(module, "image")
        wrapped: list[Any] = list(blocks)
        for i in range(1, len(self.maps)):
            wrapped[i] = Passing(wrapped[i], before=partial(self._again, i))
        wrapped[-1] = Passing(wrapped[-1], behind=lambda x: x[:, : -self.count])
        native = name == "resblocks"  # of open_clip's own ViT; timm's has its norm under another name
        before, attribute = (module.visual, "ln_pre") if native else (owner, "norm_pre")
        norm = getattr(before, attribute)
        return [
            (before, attribute, Passing(norm, before=lambda x: torch.cat([x, self._of(0, x)], dim=1))),
            shown(owner, name, wrapped),
        ]

    @property
    def count(self) -> int:
        """Tokens before each block."""
        return len(self.texts.ctx)

    def _again(self, i: int, x: Tensor) -> Tensor:
        return torch.cat([x[:, : -self.count], self._of(i, x)], dim=1)

    def _of(self, i: int, x: Tensor) -> Tensor:
        prompt = self.texts.ctx if i == 0 else self.texts.deep[i - 1]
        made: Tensor = self.maps[i](prompt)
        return made.to(x.dtype).expand(len(x), -1, -1)


@register_adapter("maple", place="tokens", starts_as_base=())
def maple(
    base: Backbone, *, length: int = 2, depth: int = 9, template: str = "a photo of a {}"
) -> Mapping[str, nn.Module]:
    """Prompts in both towers at several depths, of which those of images are linear maps of those of texts.

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
