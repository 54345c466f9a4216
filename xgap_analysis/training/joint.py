"""One encoder of sound, of video and of both, fitted to texts: learned queries read the union of their tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from xgap_analysis.core.calibration import pairs_by_label
from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures, as_tokens
from xgap_analysis.metrics import modality_gap
from xgap_analysis.scoring.learned.attention import Reader, check_heads, widened
from xgap_analysis.scoring.learned.fitted import MODEL_KEYS
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.tokens import TokenBlock, block_of_tokens

BOTH, AUDIO, VIDEO = "audio+video", "audio", "video"
CONTRASTS: Mapping[str, float] = {BOTH: 1.0, AUDIO: 1.0, VIDEO: 1.0}
Blocks = dict[str, TokenBlock]


class JointEncoder(nn.Module):
    """Tokens of sound, of video, or of both through one transformer layer, and learned queries that read them.

    Nothing marks which modality a token is of, nor its place, so that the union of a set with itself is that set, and a
    video without tokens leaves the sound as it is.

    Args:
        dim: d of tokens and queries.
        queries: their number.
        heads: of both layers.
        dropout: while it is fitted.

    Raises:
        XgapError: heads that do not divide the dimensions, or no query.
    """

    def __init__(self, dim: int, queries: int = 4, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.sizes = {"dim": dim, "queries": queries, "heads": heads}
        self.joint = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, batch_first=True)
        self.reader = Reader(dim, queries, 1, heads, 2 * dim, dropout)
        self.scale = Scale()

    def forward(self, *sets: TokenBlock) -> Float[Tensor, "b q d"]:
        """Unit vectors of the queries, of the union of the sets of each item."""
        vectors, mask = (torch.cat([getattr(own, name) for own in sets], dim=1) for name in ("vectors", "mask"))
        return normalize(self.reader(normalize(self.joined(vectors, mask), dim=-1), mask), dim=-1)

    def joined(self, vectors: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """The tokens after the joint layer; padding is not read."""
        made: Tensor = self.joint(widened(vectors), src_key_padding_mask=~mask)
        return made


def query_scores(texts: Float[Tensor, "b d"], queries: Float[Tensor, "m q d"]) -> Float[Tensor, "b m"]:
    """The cosine of a text with the best of an item's query vectors."""
    return torch.einsum("bd,mqd->bmq", texts, queries).amax(dim=2)


def three_contrasts(
    texts: Float[Tensor, "b d"],
    made: Mapping[str, Float[Tensor, "b q d"]],
    scale: Float[Tensor, ""],
    weights: Mapping[str, float] = CONTRASTS,
) -> Float[Tensor, ""]:
    """The weighted sum of symmetric InfoNCE of texts with sound and video together, with sound, and with video.

    Formula: `sum_c w_c InfoNCE(scale max_q cos(t, q_c))`, c over what `weights` names. With the first alone it is plain
    InfoNCE; where sound, video and both are one, all three are equal.

    Args:
        texts: unit rows.
        made: query vectors of each item, pairs by index: `"audio+video"`, `"audio"`, `"video"`.
        scale: 1 / temperature.
        weights: of the contrasts.

    Source: Yue et al., CoAVT: a cognition-inspired unified audio-visual-text pre-training model, 2024.

    Example:
        >>> unit = torch.eye(3)
        >>> made = {name: unit[:, None] for name in CONTRASTS}
        >>> round(float(three_contrasts(unit, made, torch.tensor(1.0))), 3)  # each is log(1 + 2 / e)
        1.654
    """
    each = [weight * both_ways(query_scores(texts, made[name]), scale) for name, weight in weights.items() if weight]
    return torch.stack(each).sum()


@dataclass(frozen=True, eq=False)
class Triples:
    """What a joint encoder is fitted to: texts, sounds and videos that share a label.

    Args:
        texts: one vector each.
        audio, video: tokens.
        places: for each label, positions of its texts, sounds and videos.
    """

    texts: Features
    audio: TokenFeatures
    video: TokenFeatures
    places: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self.texts.vectors.device

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Blocks]]:
        """One epoch: the labels in a random order, each with one of its texts, sounds and videos."""
        for part in torch.randperm(len(self.places), generator=generator).split(size):
            if len(part) < 2:
                continue
            chance = torch.rand(len(part), 3, generator=generator)
            rows = [
                [own[int(c * len(own))] for own, c in zip(self.places[label], chances, strict=True)]
                for label, chances in zip(part.tolist(), chance.tolist(), strict=True)
            ]
            text, sound, clip = torch.tensor(rows).T
            blocks = {AUDIO: self._block(self.audio, sound), VIDEO: self._block(self.video, clip)}
            yield self.texts.vectors[text.to(self.device)], blocks

    def _block(self, tokens: TokenFeatures, rows: Int[Tensor, " b"]) -> TokenBlock:
        return block_of_tokens(tokens, rows, self.device)


@dataclass(frozen=True, eq=False)
class FittedJoint:
    """A fitted joint encoder, the mean loss of each epoch, and the models whose tokens it was fitted to read.

    Args:
        module: the encoder.
        losses: of the epochs.
        models: of `"audio"` and `"video"`: what their provenance said of the model, as far as it did.
    """

    module: JointEncoder
    losses: tuple[float, ...]
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @torch.inference_mode()
    def encode(
        self,
        audio: AnyFeatures | None = None,
        video: AnyFeatures | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        block: int = 256,
    ) -> TokenFeatures:
        """The query vectors of sounds, of videos, or of both, as tokens of each item.

        Score them with `late_interaction(inner=max, outer=max)`, as they were fitted, with texts as queries or as the
        gallery.

        Args:
            audio, video: at least one of them. Of both, items are those of the sound, each with the first video of its
                label; a sound without one is encoded alone.
            labels: id to label, of both; by default those of one id belong together.
            block: items at a time.

        Raises:
            XgapError: neither, or features of another dimension or of another model than it was fitted on.
        """
        if audio is None and video is None:
            raise XgapError("a joint encoder takes sounds, videos, or both, and was given neither")
        sets = {name: as_tokens(of) for name, of in ((AUDIO, audio), (VIDEO, video)) if of is not None}
        first = next(iter(sets.values()))
        dim = self.module.reader.queries.shape[1]
        wrong = next((f"{name} of {of.dim}" for name, of in sets.items() if of.dim != dim), None)
        if wrong is not None:
            raise XgapError(f"this joint encoder reads tokens of {dim} dimensions, not {wrong}")
        for name, of in sets.items():
            self._check_model(name, of)
        pairs = [_partners(first, of, labels) for of in sets.values()]
        device = self.module.reader.queries.device
        made = []
        for rows in torch.arange(len(first)).split(block):
            blocks = [_block_or_nothing(of, own[rows], device) for of, own in zip(sets.values(), pairs, strict=True)]
            made.append(self.module(*blocks))
        vectors = torch.cat(made)
        offsets = torch.arange(len(first) + 1) * vectors.shape[1]
        name = "+".join(sets)
        about = (name, name, {**first.provenance, "joint": name}, first.items)
        return TokenFeatures(vectors.flatten(0, 1), offsets, first.ids, *about)

    def _check_model(self, name: str, of: TokenFeatures) -> None:
        fitted = self.models.get(name, {})
        key = next((key for key in MODEL_KEYS if fitted.get(key) and of.provenance.get(key)), None)
        if key is not None and fitted[key] != of.provenance[key]:
            before, here = (own.get("model", own[key]) for own in (fitted, of.provenance))
            other = " with other weights" if before == here else ""
            what = f"this joint encoder reads {name} of model {before!r}, and these tokens are of {here!r}{other}"
            raise XgapError(f"{what}; fit it on tokens like these")

    def gaps(
        self, texts: Features, audio: AnyFeatures, video: AnyFeatures, labels: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """The modality gap between texts and sound and video together, sound, and video, before and after the fit.

        Returns:
            Three rows: `pair`, `before` (of the mean of the tokens that are read) and `after` (of the mean of the query
            vectors), each in [0, 2]; see `modality_gap`.

        Raises:
            XgapError: as `encode`, or a sound without a video, whose tokens could not be united.
        """
        sound, clip = as_tokens(audio), as_tokens(video)
        partner = _partners(sound, clip, labels)
        if bool((partner < 0).any()):
            item = sound.ids[int((partner < 0).nonzero()[0])]
            raise XgapError(f"sound {item!r} has no video of its label, so that there is no union of both")
        named = [clip.take(row[None]) for row in partner]
        sets = [own.vectors for own in named]
        beside = TokenFeatures.from_sets(sets, sound.ids, clip.space, sound.origin)
        before = {BOTH: stacked(sound, beside), AUDIO: sound, VIDEO: clip}
        after = {
            BOTH: self.encode(sound, clip, labels), AUDIO: self.encode(sound), VIDEO: self.encode(video=clip)
        }  # fmt: skip
        columns = {
            name: [modality_gap(of[pair].pooled(), texts) for pair in CONTRASTS]
            for name, of in (("before", before), ("after", after))
        }
        return pd.DataFrame({"pair": [f"{pair}-text" for pair in CONTRASTS], **columns})


def fit_joint(
    texts: Features,
    audio: AnyFeatures,
    video: AnyFeatures,
    labels: Mapping[str, str] | None = None,
    *,
    contrasts: Mapping[str, float] = CONTRASTS,
    queries: int = 4,
    heads: int = 4,
    dropout: float = 0.0,
    epochs: int = 10,
    batch: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    seed: int = 0,
) -> FittedJoint:
    """A joint encoder of sound and video, fitted to texts by three contrasts; the towers under it stay as they are.

    One layer is run over the tokens of the sound, over those of the video and over their union; learned queries read
    what it gives, and an item scores by the best of them. Without weights, the union is
    `late_interaction(stacked(audio, video))`.

    Left out of the system: the matching and the language-modelling losses, and the training of its towers.

    Args:
        texts: features `[n, d]` of a split that is not evaluated.
        audio, video: tokens of the same d, from `tokens(model, sounds)` and `tokens(model, clips, "frames")`; images
            (their patches) stand for videos as well.
        labels: id to label, of all three; those of one label belong together, by default those of one id. Labels that
            lack one of the three are left out.
        contrasts: weights of `"audio+video"`, `"audio"` and `"video"` with texts, 0 or more; 0 leaves one out.
        queries, heads, dropout: of `JointEncoder`.
        epochs, batch, learning_rate, weight_decay, seed: of AdamW; the same seed gives the same weights.

    Raises:
        XgapError: no label with all three, other dimensions, an unknown contrast, a weight below 0 or all 0, or heads
            that do not divide d.

    Source: Yue et al., CoAVT, 2024; the maximum over queries is that of Li et al., BLIP-2, ICML 2023.

    Example:
        >>> import xgap_analysis as xg
        >>> x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
        >>> texts, sounds, clips = (xg.Features(x, "abcdefgh", space, space) for space in ("text", "audio", "image"))
        >>> made = fit_joint(texts, sounds, clips, queries=2, epochs=2)
        >>> made.encode(sounds, clips).space, len(made.losses)
        ('audio+video', 2)
    """
    sound, clip = as_tokens(audio), as_tokens(video)
    if not texts.dim == sound.dim == clip.dim:
        what = f"texts have {texts.dim} dimensions, sounds {sound.dim} and videos {clip.dim}"
        raise XgapError(f"{what}; they must be the same")
    unknown = [name for name in contrasts if name not in CONTRASTS]
    if unknown or min(contrasts.values(), default=0) < 0 or not any(contrasts.values()):
        what = f"contrasts give weights to {', '.join(CONTRASTS)}, 0 or more and one of them above 0"
        raise XgapError(f"{what}, not {dict(contrasts)}")
    of = [_by_label(own.ids, labels) for own in (texts, sound, clip)]
    shared = [label for label in of[0] if label in of[1] and label in of[2]]
    if not shared:
        raise XgapError("no label has a text, a sound and a video; give labels, a mapping from the ids of all three")
    places = tuple(tuple(tuple(own[label]) for own in of) for label in shared)
    with seeded(seed) as generator:
        module = JointEncoder(texts.dim, queries, heads, dropout)

        def loss(text: Tensor, blocks: Blocks) -> Tensor:
            sets = {BOTH: (blocks[AUDIO], blocks[VIDEO]), AUDIO: (blocks[AUDIO],), VIDEO: (blocks[VIDEO],)}
            made = {name: module(*sets[name]) for name, weight in contrasts.items() if weight}
            return three_contrasts(text, made, module.scale(), contrasts)

        triples = Triples(texts, sound, clip, places)
        losses = descend(
            module,
            loss,
            triples,
            generator,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
    models = {
        name: {key: str(of.provenance[key]) for key in MODEL_KEYS if of.provenance.get(key)}
        for name, of in ((AUDIO, sound), (VIDEO, clip))
    }
    return FittedJoint(module, losses, models)


def _by_label(ids: Sequence[str], labels: Mapping[str, str] | None) -> dict[str, list[int]]:
    """Positions by label, of the ids that have one."""
    found: dict[str, list[int]] = {}
    for row, item in enumerate(ids):
        label = item if labels is None else labels.get(item)
        if label is not None:
            found.setdefault(label, []).append(row)
    return found


def _partners(first: TokenFeatures, other: TokenFeatures, labels: Mapping[str, str] | None) -> Int[Tensor, " n"]:
    """For each item of the first, the position of the first item of the other that shares its label; -1 for none."""
    if other is first:
        return torch.arange(len(first))
    rows = torch.full((len(first),), -1)
    for row, own in pairs_by_label(first, other, labels or {}):
        rows[row] = own
    return rows


def _block_or_nothing(tokens: TokenFeatures, rows: Int[Tensor, " b"], device: torch.device) -> TokenBlock:
    """The items at these positions; an item of no tokens where the position is -1."""
    block = block_of_tokens(tokens, rows.clamp(min=0), device)
    there = (rows >= 0).to(device)
    return TokenBlock(block.vectors * there[:, None, None], block.mask & there[:, None])
