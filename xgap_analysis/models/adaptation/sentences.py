"""Text towers that are a frozen language model with something small behind it (LLM2CLIP, RS-CapRet)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone
from xgap_analysis.models.adaptation.grounded import Behind
from xgap_analysis.models.adaptation.language import ABSENT, Language, last_of, mean_of, repeated, together
from xgap_analysis.models.adaptation.part import Part, whole_pass
from xgap_analysis.models.shadows import Shadow

BLOCKS = 4


class OfLanguage(Part):
    """A text tower over a language model, which is no part of what is saved; its digest is.

    Args:
        language: the model.
    """

    replaces = True

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language, self.length = language, language.length  # a setting that features depend on
        self.register_buffer("language", language.digest)

    def _load_from_state_dict(self, state: Any, prefix: str, *more: Any) -> None:
        said = state.get(f"{prefix}language")
        if said is not None and not torch.equal(said.cpu(), self._language.digest):
            raise XgapError(
                "this adapter was trained on another language model than the one in the folder that it names"
            )
        super()._load_from_state_dict(state, prefix, *more)

    def tokenizer(self, tokenize: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """See `Part.tokenizer`."""
        return self._language.ids

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        return [whole_pass(module, "text", self)]


class Block(nn.Module):
    """`x + W2 gelu(W1 LN(x))`, twice as wide between: `4 d^2 + 5 d` parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(dim)
        # The places of the published names, among them one of a dropout of 0.
        self.fn = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Identity(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Of vectors `[n, d]`."""
        made: Tensor = x + self.fn(self.ln(x))
        return made


class SentenceAdapter(nn.Sequential):
    """Four residual blocks, a layer norm and a linear map, of sentence vectors scaled to length 1.

    Args:
        dim: D of a sentence vector.
        out: e; it has `4 (4 D^2 + 5 D) + 2 D + D e + e` parameters.

    Source: Huang et al., LLM2CLIP: powerful language model unlocks richer visual representation, 2024.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(*(Block(dim) for _ in range(BLOCKS)), nn.LayerNorm(dim), nn.Linear(dim, out))

    def forward(self, vectors: Tensor) -> Tensor:
        """Features `[n, e]` of sentence vectors `[n, D]` of any length."""
        made: Tensor = super().forward(F.normalize(vectors, dim=1))
        return made


class MeanSentence(OfLanguage):
    """The mean of a language model's last states through a `SentenceAdapter`."""

    def __init__(self, language: Language, out: int) -> None:
        super().__init__(language)
        self.adaptor = SentenceAdapter(language.width, out)

    def forward(self, ids: Tensor) -> Tensor:
        """Features `[n, e]` of ids `[n, length]`."""
        mask = ids != ABSENT
        with torch.no_grad():
            sentences = mean_of(self._language.states(self._language.embedded(ids), mask), mask)
        made: Tensor = self.adaptor(sentences)
        return made


@register_adapter("llm2clip", place="tower", trained=["visual."], starts_as_base=["image"])
def llm2clip(base: Backbone, *, language: str = "", length: int = 64) -> Mapping[str, nn.Module]:
    """A frozen language model and a trained adapter of four residual blocks as text tower; the image tower is trained.

    Args:
        base: a model of open_clip's.
        language: folder of a language model of transformers.
        length: tokens of a caption.

    Returns:
        The text tower, with `4 (4 D^2 + 5 D) + 2 D + D e + e` parameters of its own for states of D dimensions.

    Raises:
        XgapError: no language model in that folder.

    Source: Huang et al., LLM2CLIP: powerful language model unlocks richer visual representation, 2024. Its first stage,
    which trains the language model on captions, is not part of this.
    """
    return {"text": MeanSentence(Language(language, length), base.dims["image"])}


class RetrievalToken(OfLanguage):
    """A learned token behind each caption, whose last state is projected.

    Args:
        language: the model.
        dim: e of a feature; it has `D + D e + e` parameters.
    """

    def __init__(self, language: Language, dim: int) -> None:
        super().__init__(language)
        with torch.device("cpu"):
            table = language.model.get_input_embeddings().weight
        self.token = nn.Parameter(table.mean(0, keepdim=True).clone())  # as new tokens of a vocabulary are begun
        self.text_hidden_fcs = nn.Linear(language.width, dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Features `[n, e]` of ids `[n, length]`."""
        words = (self._language.embedded(ids), ids != ABSENT)
        inputs, mask = together(words, repeated(self.token, len(ids)))
        made: Tensor = self.text_hidden_fcs(last_of(self._language.states(inputs, mask), mask))
        return made


@register_adapter("rs-capret", place="tower", starts_as_base=())
def rs_capret(base: Backbone, *, language: str = "", dim: int = 256, length: int = 64) -> Mapping[str, nn.Module]:
    """A learned retrieval token after a caption in a frozen language model, and linear maps of it and of images.

    Args:
        base: a model of open_clip's, whose image tower stays as it is.
        language: folder of a language model of transformers.
        dim: e of the common space.
        length: tokens of a caption.

    Returns:
        Both parts, with `D + D e + e` and `d e + e` parameters.

    Raises:
        XgapError: no language model in that folder, or a dim below 1.

    Source: Silva et al., Large language models for captioning and retrieving remote sensing images, 2024 (abstract), in
    the form of Koh et al., Grounding language models to images for multimodal inputs and outputs, ICML 2023. Its
    captions are not part of this.
    """
    if dim < 1:
        raise XgapError(f"rs-capret has features of 1 dimension or more, not {dim}")
    text = RetrievalToken(Language(language, length), dim)
    return {"image": Behind("image", nn.Linear(base.dims["image"], dim)), "text": text}
