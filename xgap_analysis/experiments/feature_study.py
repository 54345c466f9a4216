"""A study without a model: what two files of vectors, of any two modalities, say about each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import pandas as pd
from PIL import Image

from xgap_analysis.core.cells import label_text
from xgap_analysis.core.errors import XgapError, notice, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import load_features
from xgap_analysis.core.relevance import by_id
from xgap_analysis.corrections import Calibration, Correction, correction
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.datasets.local.pairs import read_labels
from xgap_analysis.experiments.study import COMPARISONS, MODEL, Comparison, Evaluation, Study, within
from xgap_analysis.metrics import gap_report, hubness
from xgap_analysis.models.adapters.absent import AbsentTower
from xgap_analysis.models.tower import DualEncoder

LABEL, PAIR = "label", "pair"  # levels: what the labels say, and one item on both sides


@dataclass(frozen=True)
class FeatureStudy:
    """Retrieval within and across two sides, with every correction that needs no model, and the gap metrics.

    Args:
        x, y: vectors `[n, d]` and `[m, d]` of two spaces (image and text, audio and video, ...).
        labels: id to label, of both sides; items that share a label answer each other. Without labels, items of one id
            do, which asks nothing within a side. Missing labels (None, NaN, -1) are left out, and counted in a warning.
        comparisons: of `x-x`, `y-y`, `x-y` and `y-x`, by the names of the spaces (`audio-audio`, `audio-video`; images
            and texts are `I-I`, `I-T`, ...); None takes all that the labels can answer.
        corrections: as in `Study`; those that read a model's projection refuse in the table.
        calibration: other features of the two spaces, which corrections are fitted on.
        name: of the data, for the table; the model's is taken from the provenance of x.

    An id stands for one item on both sides, so that features of one origin (images, and their inversions) exclude
    self-matches across the sides too, whatever files they come from.

    Raises:
        XgapError: different dimensions, one space on both sides, rows that are paired by number and are not equally
            many, or an unknown comparison or correction.
    """

    x: Features
    y: Features
    labels: Mapping[str, str] | None = None
    comparisons: Sequence[str] | None = None
    corrections: Sequence[str | Correction] = ("none",)
    calibration: tuple[Features, Features] | None = None
    name: str = "features"

    def __post_init__(self) -> None:
        if self.x.dim != self.y.dim:
            raise XgapError(f"x has {self.x.dim} dimensions and y {self.y.dim}; they must be the same")
        if self.x.space == self.y.space:
            what = f"both sides lie in the space {self.x.space!r}, and a study compares two"
            raise XgapError(f"{what}; for a query set and a gallery of one space, use retrieval(query, gallery, ...)")
        check_rows(self.x, self.y)
        if self.calibration is not None:
            found = [side.space for side in self.calibration]
            if found != [self.x.space, self.y.space] or {s.dim for s in self.calibration} != {self.x.dim}:
                what = f"the calibration features are of {' and '.join(found)}"
                raise XgapError(f"{what}; give those of {self.x.space} and {self.y.space}, in the same dimensions")
        for asked in self.comparisons or ():
            if asked not in self._known:
                raise unknown_name("comparison", asked, self._known)
        if self.labels is not None:
            texts = {item: label_text(label) for item, label in by_id(self.labels, "item").items()}
            kept = {item: label for item, label in texts.items() if label is not None}
            if len(kept) < len(texts):
                notice(f"{len(texts) - len(kept)} of {len(texts)} labels are missing; these items belong to no class")
            object.__setattr__(self, "labels", kept)
        _ = self.evaluation

    def run(self) -> pd.DataFrame:
        """The tidy table, as `Study.run` gives it."""
        return self.evaluation.table()

    def gaps(self) -> pd.DataFrame:
        """One row of gap metrics (see `gap_report`), of the items that both sides have, paired by id.

        Where no id is on both sides, what needs pairs is NaN and `n` is 0, and a warning says so. With labels, the
        misalignment within each side is given too.
        """
        row = gap_report(self.x, self.y)
        if self.labels is not None:
            relevance = self.evaluation.data.relevance()
            for side in (self.x, self.y):
                row[f"misalignment_{side.space}"], row[f"misalignment_{side.space}_pooled"] = within(
                    side, self.labels, relevance
                )
        hubs = hubness(self.x, self.x, min(10, len(self.x) - 1)).add_prefix("hubness_")
        about = pd.DataFrame([{"model": self.evaluation.model.name, "dataset": self.name}])
        parts = (about, row.reset_index(drop=True), hubs.reset_index(drop=True))
        return pd.concat(parts, axis=1)

    @cached_property
    def _known(self) -> dict[str, Comparison]:
        """The comparisons by name; x takes the image's part in them, and y the text's."""
        x, y = _short(self.x), _short(self.y)
        views = {f"{x}-{x}": ("image", "image"), f"{y}-{y}": ("text", "text")}
        views |= {f"{x}-{y}": ("image", "text"), f"{y}-{x}": ("text", "image")}
        return {name: Comparison(name, *sides, "retrieval", name) for name, sides in views.items()}

    @cached_property
    def evaluation(self) -> "FeatureEvaluation":
        """The scores behind the table, query by query."""
        across = [name for name, c in self._known.items() if c.query != c.gallery]
        names = list(self.comparisons or (across if self.labels is None else self._known))
        asked = []
        for name in names:
            usual = COMPARISONS.get(name)  # an inverted side is measured against the native one, where both are asked
            own = self._known[name]
            asked.append(
                replace(own, baseline=usual.baseline, claim=usual.claim) if usual and usual.baseline in names else own
            )
        data = self._items(self.x, self.y, "all")
        fit = None if self.calibration is None else self._items(*self.calibration, "calibration")
        label = str(self.x.provenance.get("model", "features"))
        nameless = cast(DualEncoder, Nameless(label, *(AbsentTower(label, side.space) for side in (self.x, self.y))))
        study = Study([label], [data], asked, self.corrections, progress=False)
        return FeatureEvaluation(study, nameless, data, fit, brought=self)

    def _items(self, x: Features, y: Features, split: str) -> Dataset:
        pairs = {i: i for side in (x, y) for i in side.ids}
        own = {} if self.labels is None else {LABEL: self.labels}
        return Dataset(self.name, split, Images(x.ids, _no_picture), Texts(y.ids, y.ids), {**own, PAIR: pairs})


def check_rows(x: Features, y: Features) -> None:
    """Refuse two sides that are paired by the numbers of their rows, and of which one has lost some.

    Raises:
        XgapError: where that is so: which rows are missing nobody knows, and each pair behind the first would be wrong.
    """
    if x.numbered and y.numbered and len(x) != len(y):
        raise XgapError(
            f"{x.space} has {len(x)} rows and {y.space} {len(y)}, and rows without ids are paired by their number; "
            f"take files of as many rows, or files with ids (.npz: vectors and ids; .parquet: vector and id)"
        )


def study_of_files(
    paths: Sequence[Path],
    labels: Path | None = None,
    spaces: Sequence[str] = (),
    comparisons: Sequence[str] | None = None,
    corrections: Sequence[str | Correction] = ("none",),
    keys: Sequence[str] = (),
) -> FeatureStudy:
    """A study of two files of features (see `load_features`).

    Args:
        paths: of x and y.
        labels: a table with a column `label`, and `id` where the ids are not the running numbers of the rows. Where it
            has a column `split`, the items of `train` are what corrections are fitted on, and those of `test` are
            judged (where there are none, those of `val`).
        spaces: of x and y, where the files do not say it; the files' names by default.
        comparisons, corrections: as in `FeatureStudy`.
        keys: the arrays or columns that hold the vectors of x and y, or one for both, where they have other names.

    Raises:
        XgapError: not two files or spaces, one that cannot be read, no item with a label, or what the study refuses.
    """
    if len(paths) != 2 or len(spaces) not in (0, 2):
        raise XgapError(
            f"two files of features are compared, and two spaces named or none, not {len(paths)} and {len(spaces)}"
        )
    if len(keys) > 2:
        raise XgapError(f"the vectors of two files have one key or two, not {len(keys)}")
    each = [_key_for(path, keys[min(k, len(keys) - 1)] if keys else None) for k, path in enumerate(paths)]
    sides = []
    for k, path in enumerate(paths):
        try:
            sides.append(load_features(path, space=spaces[k] if spaces else None, key=each[k]))
        except XgapError as error:
            if "does not say which space" not in str(error):
                raise
            sides.append(load_features(path, space=path.stem, key=each[k]))
    x, y = sides
    check_rows(x, y)
    of, splits = read_labels(labels) if labels is not None else (None, {})
    calibration = None
    if "train" in splits.values():
        judged = "test" if "test" in splits.values() else "val"
        calibration = (_of(x, splits, "train"), _of(y, splits, "train"))
        x, y = _of(x, splits, judged), _of(y, splits, judged)
    name = "+".join(path.stem for path in paths)
    return FeatureStudy(x, y, of, comparisons, corrections, calibration, name)


def _key_for(path: Path, key: str | None) -> str | None:
    """The key of a file; a `.npy` file, or a folder of them, holds one array without a name."""
    return None if path.is_dir() or path.suffix == ".npy" else key


def _of(side: Features, splits: Mapping[str, str], split: str) -> Features:
    chosen = [i for i in side.ids if splits.get(i) == split]
    if not chosen:
        raise XgapError(f"no id of the {side.space} features, such as {side.ids[0]!r}, is of split {split!r}")
    return side.select(chosen)


def _short(side: Features) -> str:
    """A side's name in a comparison: I, T, OTI and OVI as the field has them, or its space."""
    known = {("image", "image"): "I", ("text", "text"): "T", ("image", "text"): "OTI", ("text", "image"): "OVI"}
    own = side.space if side.space == side.origin else f"{side.origin}>{side.space}"
    return known.get((side.origin, side.space), own)


def _no_picture(item: str) -> Image.Image:
    raise XgapError(f"item {item!r} is a vector alone; there is no picture of it")


@dataclass(frozen=True)
class Nameless:
    """Stands in an evaluation for the model that is not there: it has a name for tables and no towers."""

    name: str
    image: AbsentTower
    text: AbsentTower


@dataclass
class FeatureEvaluation(Evaluation):
    """An evaluation whose features were brought along; what would need a model is refused."""

    brought: FeatureStudy | None = field(default=None, kw_only=True)

    def _native(self, space: str, part: str) -> Features:
        assert self.brought is not None
        if part == "classes":
            raise XgapError("features name no classes; give the vectors of the class names as one side")
        x, y = self.brought.x, self.brought.y
        if space == "image":
            return x
        return replace(y, items=x.items) if x.origin == y.origin else y  # one id, one item, also across the files

    def _calibrating(self, space: str) -> Features:
        assert self.brought is not None
        assert self.brought.calibration is not None
        return self.brought.calibration[space == "text"]

    def _of_model(self) -> Calibration:
        x, y = (self._native(space, "all").select(()) for space in ("image", "text"))
        return Calibration(x, y, MODEL)

    @property
    def encoder(self) -> None:
        """None: corrections that read a model refuse."""
        return None

    def is_transductive(self, by: str | Correction, comparison: Comparison) -> bool:
        """Whether a correction sees what is judged: ids may be running numbers, so that vectors are compared."""
        if correction(by).transductive or self.fit_data is None:
            return correction(by).transductive
        sides = (("image", self._native("image", "all")), ("text", self._native("text", "all")))
        return any(_share_a_row(judged, self._calibrating(space)) for space, judged in sides)


def _share_a_row(x: Features, y: Features) -> bool:
    rows = {row.tobytes() for row in x.vectors.cpu().numpy()}
    return any(row.tobytes() in rows for row in y.vectors.cpu().numpy())
