"""A tower of clips, fitted to texts: the text tower and what the tower of clips has frozen stay as they are."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.core.calls import Call
from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets.items import Items, Texts
from xgap_analysis.models.tower import Model
from xgap_analysis.models.video import VideoTower, video_tower, with_video
from xgap_analysis.scoring.learned.loop import descend, seeded
from xgap_analysis.scoring.learned.pairs import drawn, queries_by_item
from xgap_analysis.store import Store
from xgap_analysis.views import encode

HIGHEST_SCALE = 100.0  # as CLIP limits it


@dataclass(frozen=True, eq=False)
class FittedFrames:
    """A model with a fitted tower of clips, and the mean loss of each epoch.

    It is not written to a file: use it in the process that fitted it (`Study(models=[made.model])`).
    """

    model: Model
    losses: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Clips:
    """Texts and the clips that they are about, which are opened a batch at a time.

    Args:
        texts: features of all texts.
        videos: clips.
        tower: prepares them.
        places: positions of the clips that have a text.
        queries_of: for each of these, the positions of its texts.
    """

    texts: Features
    videos: Items
    tower: VideoTower
    places: tuple[int, ...]
    queries_of: tuple[tuple[int, ...], ...]

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self.tower.base.device

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of texts `[b, d]` and pixels `[b, f, 3, h, w]`; see `drawn`."""
        for queries, items in drawn(self.queries_of, size, generator):
            opened = [self.videos[self.places[i]] for i in items.tolist()]
            yield self.texts.vectors[queries].to(self.device), self.tower.prepare(opened).to(self.device)


def fit_frames(
    model: Model,
    wanted: str | Call,
    texts: Texts,
    videos: Items,
    *,
    pairs: Mapping[str, str | Collection[str]] | None = None,
    curriculum: Sequence[int] = (),
    frames: int | None = None,
    epochs: int = 5,
    batch: int = 32,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.0,
    seed: int = 0,
    store: Store | str | None = "default",
) -> FittedFrames:
    """A model whose tower of clips is fitted to texts, by symmetric cross entropy over the clips of a batch.

    Texts are encoded once, by the model's own text tower, which stays as it is; similarities are multiplied by the
    model's logit scale, at most 100. The same items, options and seed give the same weights, which matters because a
    fitted tower is not written to a file: what `load_model` reads has none.

    Args:
        model: with a text tower, and an image tower that the tower of clips is started from.
        wanted: `"prompt_switch(prompts=4)"`, `"space_time(frames=4)"`; see `models.video.FRAME_TOWERS`.
        texts, videos: of a split that is not evaluated; a clip opens as a list of images.
        pairs: from text id to clip id, or to several (`data.labels["clip"]`, say); by default the same id.
        curriculum: numbers of frames that are read one after the other, `epochs` each: `(1, 4)` as in Frozen in Time,
            whose further times begin at zero. By default the number that the tower reads.
        frames: that the fitted tower reads; by default the last of the curriculum, or what the tower is made for.
        epochs, batch, learning_rate, weight_decay, seed: of AdamW.
        store: where the features of texts are kept.

    Raises:
        XgapError: no pair, a tower with nothing to train, or as `with_frames`.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji-clips").split("train")
        >>> video = data.items["video"].select(data.items["video"].ids[:2])
        >>> tower = "prompt_switch(prompts=2)"
        >>> made = fit_frames(
        ...     xg.load_model("tiny"), tower, data.texts, video, pairs=data.labels["clip"], frames=2, epochs=1
        ... )
        >>> made.model.name, len(made.losses)
        ('tiny+prompt_switch(prompts=2)', 1)
    """
    read = frames if frames is not None or not curriculum else curriculum[-1]
    tower, name = video_tower(model, wanted, frames=read, seed=seed)
    trained = [weight for weight in tower.module.parameters() if weight.requires_grad]
    if not trained:
        raise XgapError(f"the tower {wanted} has nothing to train; make it with models.video.with_frames")
    of = queries_by_item(texts.ids, videos.ids, pairs)
    chosen = texts.select([texts.ids[row] for row in sorted({row for rows in of.values() for row in rows})])
    features = encode(model, chosen, store=store, progress=False)
    of = queries_by_item(features.ids, videos.ids, pairs)
    scale = torch.tensor(min(model.logit_scale, HIGHEST_SCALE), device=model.device)

    def loss(query: Tensor, pixels: Tensor) -> Tensor:
        return both_ways(query @ normalize(tower.encode(pixels), dim=-1).T, scale)

    losses: tuple[float, ...] = ()
    with seeded(seed) as generator:
        for number in curriculum or (tower.frames,):
            for weight in trained:
                weight.requires_grad_(True)
            clips = Clips(features, videos, tower.reading(number), tuple(of), tuple(map(tuple, of.values())))
            losses += descend(
                tower.module,
                loss,
                clips,
                generator,
                epochs=epochs,
                batch=batch,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
            )
    return FittedFrames(with_video(model, tower, name), losses)
