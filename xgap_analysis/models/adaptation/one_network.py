"""One language model for both modalities: images are read as words are (VladVA, MM-Embed)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, last_tokens, width_of
from xgap_analysis.models.adaptation.language import (
    ABSENT,
    Language,
    LowRank,
    last_of,
    mean_of,
    repeated,
    together,
)
from xgap_analysis.models.adaptation.part import whole_pass
from xgap_analysis.models.adaptation.sentences import OfLanguage
from xgap_analysis.models.shadows import Shadow

Sequence = tuple[Tensor, Tensor]  # vectors [n, L, D], mask [n, L]


class Reader(OfLanguage):
    """A tower that reads a sequence with a language model.

    Args:
        language: the model.
        tuned: its change, which both towers share.
        modality: of the tower.
        width: of an image token; 0 for texts.
        before: phrase `[m, D]` in front of each item, which is fixed and no part of the mean.
        behind: phrase `[m, D]` behind each item, which is trained; None for none: then the mean is taken.
    """

    def __init__(
        self,
        language: Language,
        tuned: LowRank,
        modality: str,
        width: int,
        before: Tensor | None = None,
        behind: Tensor | None = None,
    ) -> None:
        super().__init__(language)
        self.replaces = modality == "text"
        self.modality, self.tuned = modality, tuned
        self.connect = nn.Linear(width, language.width) if width else None
        self.prompt = None if behind is None else nn.Parameter(behind)
        self.register_buffer("before", torch.zeros(0, language.width) if before is None else before, persistent=False)

    def tokenizer(self, tokenize: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """See `Part.tokenizer`."""
        return self._language.ids

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        return [whole_pass(module, self.modality, lambda batch: self.read(self._items(module, batch)))]

    def _items(self, module: Any, batch: Tensor) -> Sequence:
        if self.connect is None:
            return self._language.embedded(batch), batch != ABSENT
        patches = self.connect(last_tokens(module, "image", batch).float())
        return patches, torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)

    def read(self, items: Sequence) -> Tensor:
        """Features `[n, D]` of items in the space of the model's input."""
        n, device = len(items[0]), items[0].device
        assert isinstance(self.before, Tensor)
        parts = [repeated(self.before.to(device), n), items]
        if self.prompt is not None:
            parts.append(repeated(self.prompt, n))
        inputs, mask = together(*parts)
        states = self.tuned.states(self._language, inputs, mask)
        if self.prompt is not None:
            return last_of(states, mask)
        counted = mask.clone()
        counted[:, : len(self.before)] = False  # it stands in front, where nothing is absent
        return mean_of(states, counted)

    def next_words(self, module: Any, pixels: Tensor, ids: Tensor) -> Tensor:
        """How badly the model predicts captions, word by word, from an image and what of the caption came before.

        Formula: the mean of `-log softmax(E h)[id]` over the tokens of all captions, h the state before a token (of the
        image's last patch before the first), E the token table, which is the model's language head too.

        Args:
            module: open_clip's model.
            pixels: `[n, 3, h, w]`.
            ids: `[n, length]`, a caption each, with tokens of the language model.

        Raises:
            XgapError: a language model whose head is another than its token table.

        Source: Ouali et al., VladVA: discriminative fine-tuning of LVLMs, CVPR 2025.
        """
        model = self._language.on(pixels.device)
        if not getattr(model.config, "tie_word_embeddings", True):
            raise XgapError(
                "words are predicted by a language head that is the token table, and this model has another"
            )
        images, there = self._items(module, pixels), ids != ABSENT
        inputs, mask = together(images, (self._language.embedded(ids), there))
        states = self.tuned.states(self._language, inputs, mask)[:, images[0].shape[1] - 1 : -1]
        logits = states[there] @ model.get_input_embeddings().weight.T
        return F.cross_entropy(logits, ids[there])


@register_adapter("vladva", place="tower", starts_as_base=())
def vladva(
    base: Backbone,
    *,
    language: str = "",
    prompt: str = "Summarise this in one word:",
    rank: int = 16,
    length: int = 64,
) -> Mapping[str, nn.Module]:
    """One causal language model as both towers: features are the last state after a prompt for a summary.

    Images are read as their patches, through a linear map. The prompt is a learned one for each modality that starts as
    the phrase, so without training it is that phrase; the model's attention is changed by LoRA, which starts at zero.

    Args:
        base: a model with a ViT of open_clip's or timm's, which stays as it is.
        language: folder of a causal language model of transformers.
        prompt: what both prompts start as.
        rank: of LoRA; 0 for none.
        length: tokens of a caption.

    Returns:
        Both towers, with features of the model's D dimensions.

    Raises:
        XgapError: no language model in that folder, or an empty prompt.

    Source: Ouali et al., VladVA: discriminative fine-tuning of LVLMs, CVPR 2025. The recipe `vladva` trains it
    with its next-word loss too.
    """
    made = Language(language, length)
    phrase = made.phrase(prompt)
    if not len(phrase):
        raise XgapError("the prompt of vladva has one word or more; its last state is the feature")
    tuned = LowRank(made, rank)
    image = Reader(made, tuned, "image", width_of(base.module, "image"), behind=phrase.clone())
    return {"image": image, "text": Reader(made, tuned, "text", 0, behind=phrase.clone())}


@register_adapter("mm-embed", place="tower", starts_as_base=())
def mm_embed(
    base: Backbone,
    *,
    language: str = "",
    instruction: str = "Retrieve what shows the same.",
    rank: int = 8,
    length: int = 64,
) -> Mapping[str, nn.Module]:
    """One language model as both towers, with an instruction first: features are the mean state of all other tokens.

    Args:
        base: a model with a ViT of open_clip's or timm's, which stays as it is.
        language: folder of a language model of transformers.
        instruction: in front of each item, as `Instruct: ...` and `Query:`; nothing is put there where it is empty.
        rank: of LoRA; 0 for none.
        length: tokens of a caption.

    Returns:
        Both towers, with features of the model's D dimensions.

    Raises:
        XgapError: no language model in that folder.

    Source: Lin et al., MM-Embed: universal multimodal retrieval with multimodal LLMs, ICLR 2025. There the states are
    pooled by attention, and documents have no instruction; `metrics.wrong_modality` finds its hard negatives.
    """
    made = Language(language, length)
    before = made.phrase(f"Instruct: {instruction}\nQuery: ") if instruction else None
    tuned = LowRank(made, rank)
    image = Reader(made, tuned, "image", width_of(base.module, "image"), before=before)
    return {"image": image, "text": Reader(made, tuned, "text", 0, before=before)}
