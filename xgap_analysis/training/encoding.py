"""The items of a batch through the towers that are trained: no more of them at once than fit, or than is needed."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.attached import Attached
from xgap_analysis.models.adapters.hidden import features_and_patches, features_and_words
from xgap_analysis.models.adapters.openclip import autocast
from xgap_analysis.scoring.tokens import TokenBlock
from xgap_analysis.training.objectives import Needs, Term
from xgap_analysis.training.pairs import Batch

ITEMS = {"images": 1, "texts": 0, "patches": 0, "words": 0}  # the dimension of the items; 0 of what is not listed
NOTHING = (0, 0, 0)

Encoded = dict[str, Tensor]  # images [v, m, d], texts [m, k, d], patches [m, P, d], words [m, length, d], others [m, d]


@dataclass(frozen=True, eq=False)
class Encoder:
    """An open_clip module, and what is trained beside it, as towers of unit features.

    Args:
        module: the model.
        attached: an adapter behind it, or inside.
        needs: of each active term.
        precision: of the recipe.
        token_dropout: share of a token embedding that is zeroed.
        further: the towers of further modalities, by name.
    """

    module: Any
    attached: Attached | None
    needs: tuple[Needs, ...]
    precision: str = "fp32"
    token_dropout: float = 0.0
    further: nn.ModuleDict | None = None

    @property
    def device(self) -> torch.device:
        """Where the towers compute."""
        device: torch.device = next(self.module.parameters()).device
        return device

    def parts(self, batch: Batch, part: slice, seed: int) -> Encoded:
        """Some items of a batch: what the terms need of them, by name.

        Args:
            batch: of the step.
            part: which items.
            seed: of the dropout; the same when a part comes again.
        """
        made: Encoded = {}
        cuda = [self.device] if self.device.type == "cuda" else []
        own = entered(self.module, self.attached)
        with torch.random.fork_rng(devices=cuda), autocast(self.device, self.precision), own:
            torch.manual_seed(seed)
            if batch.pixels.numel():
                made |= self._images(batch.pixels[:, part].to(self.device, non_blocking=True))
            if batch.tokens.numel():
                made |= self._texts(batch.tokens[part].to(self.device, non_blocking=True))
            for name, inputs in batch.extra.items():
                assert self.further is not None
                tower = self.further[name]
                made[name] = F.normalize(tower(inputs[part].to(self.device, non_blocking=True)).float(), dim=-1)
        return made

    def image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `objectives.batch.Towers`."""
        with autocast(self.device, self.precision), entered(self.module, self.attached):
            features, patches = features_and_patches(self.module.visual, pixels)
            return self._unit("image", features), self._unit("image", patches)

    def text(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `objectives.batch.Towers`."""
        with autocast(self.device, self.precision), entered(self.module, self.attached), self._dropout():
            features, words = features_and_words(self._text, ids, self.module.encode_text)
            return self._unit("text", features), self._unit("text", words)

    def next_words(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """How badly the language model of an adapter predicts captions from images; see its `Reader.next_words`."""
        assert self.attached is not None
        reader: Any = self.attached.modules["image"]
        with autocast(self.device, self.precision):
            made: Tensor = reader.next_words(self.module, pixels, ids)
        return made

    def _images(self, pixels: Tensor) -> Encoded:
        """Of pixels `[v, m, 3, h, w]`."""
        if not any(needs.image_tokens for needs in self.needs):
            return {
                "images": self._unit("image", self.module.encode_image(pixels.flatten(0, 1))).unflatten(
                    0, pixels.shape[:2]
                )
            }
        features, patches = features_and_patches(self.module.visual, pixels.flatten(0, 1))
        images = self._unit("image", features).unflatten(0, pixels.shape[:2])
        return {"images": images, "patches": self._unit("image", patches[: pixels.shape[1]])}

    def _texts(self, ids: Tensor) -> Encoded:
        """Of token ids `[m, k, length]`."""
        with self._dropout():
            if not any(needs.text_tokens for needs in self.needs):
                return {
                    "texts": self._unit("text", self.module.encode_text(ids.flatten(0, 1))).unflatten(0, ids.shape[:2])
                }
            features, words = features_and_words(self._text, ids.flatten(0, 1), self.module.encode_text)
        texts = self._unit("text", features).unflatten(0, ids.shape[:2])
        return {"texts": texts, "words": self._unit("text", words.unflatten(0, ids.shape[:2])[:, 0])}

    def _unit(self, modality: str, features: Tensor) -> Tensor:
        """Unit rows of features `[..., d]`, after the adapter."""
        features = features.float()
        if self.attached is not None:
            features = self.attached.after(modality, features.flatten(0, -2)).unflatten(0, features.shape[:-1])
        return F.normalize(features, dim=-1)

    @property
    def _text(self) -> Any:
        """The text part of the module; CLIP holds it itself."""
        return getattr(self.module, "text", self.module)

    @contextlib.contextmanager
    def _dropout(self) -> Iterator[None]:
        """Within, dropout of token embeddings, where the recipe has it."""
        if not self.token_dropout:
            yield
            return
        table = getattr(self._text, "token_embedding", None) or self._text.transformer.get_input_embeddings()
        hook = table.register_forward_hook(lambda _module, _inputs, made: F.dropout(made, self.token_dropout))
        try:
            yield
        finally:
            hook.remove()


def entered(module: Any, attached: Attached | None) -> contextlib.AbstractContextManager[None]:
    """Within, a model has the parts of its adapter inside, where it has one that enters there."""
    return contextlib.nullcontext() if attached is None else attached.within(module)


def check_tokens(module: Any, attached: Attached, terms: Sequence[Term]) -> None:
    """Refuse terms that read the tokens of a tower whose adapter gives one vector for each item.

    Raises:
        XgapError: such a term.
    """
    for modality, names in (("image", ("image_tokens", "towers")), ("text", ("text_tokens", "ids", "towers"))):
        if attached.adapter.inside and modality in attached.modules and attached.is_whole(module, modality):
            part: Any = attached.modules[modality]
            for term in (term for term in terms if not term.needed.reader):
                # A tower that is not replaced reads the base's ids, whatever it makes of them.
                if any(getattr(term.needed, name) for name in names if name != "ids" or part.replaces):
                    what = f"objective {str(term)!r} reads tokens of the {modality} tower"
                    raise XgapError(f"{what}, which gives one vector per item with adapter {attached.adapter}")


def check_reader(attached: Attached | None, terms: Sequence[Term]) -> None:
    """Refuse terms that have a language model predict words where no adapter reads images with one.

    Raises:
        XgapError: such a term.
    """
    reads = attached is not None and "image" in attached.modules and hasattr(attached.modules["image"], "next_words")
    for term in terms:
        if term.needed.reader and not reads:
            raise XgapError(
                f"objective {str(term)!r} has a language model predict words after an image: train the adapter vladva "
                "or mm-embed with it"
            )


def joined(parts: list[Encoded]) -> Encoded:
    """The parts of a batch as a whole."""
    return {name: torch.cat([part[name] for part in parts], dim=ITEMS.get(name, 0)) for name in parts[0]}


def part_of(name: str, tensor: Tensor, part: slice) -> Tensor:
    """Some items of what `joined` gives under a name."""
    return tensor[:, part] if ITEMS.get(name, 0) else tensor[part]


def patches_of(encoded: Encoded) -> TokenBlock | None:
    """The patches of images, of which each place is one."""
    if "patches" not in encoded:
        return None
    patches = encoded["patches"]
    return TokenBlock(patches, torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device))


def words_of(encoded: Encoded, is_word: Tensor) -> TokenBlock | None:
    """The words of first captions, before the padding.

    Args:
        encoded: with all places of the ids, `[n, length, d]`.
        is_word: `[n, k, length]`.
    """
    if "words" not in encoded:
        return None
    mask = is_word[:, 0].to(encoded["words"].device)
    order = mask.long().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(mask.sum(1).max()))]
    mask = mask.gather(1, order)
    vectors = encoded["words"].gather(1, order[..., None].expand(-1, -1, encoded["words"].shape[-1]))
    return TokenBlock(vectors.masked_fill(~mask[..., None], 0.0), mask)
