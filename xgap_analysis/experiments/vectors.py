"""Studies of features that were computed elsewhere, of any modalities: no model is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from xgap_analysis.core.errors import XgapError, notice, unknown_name
from xgap_analysis.core.features import Features, FeaturesLike, as_modalities, check_modalities, modality_name
from xgap_analysis.core.features_io import load_features
from xgap_analysis.core.relevance import RelevanceLike, labels_by_id
from xgap_analysis.core.table_values import label_text
from xgap_analysis.corrections import Correction
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.datasets.local.labels import read_labels
from xgap_analysis.experiments.comparison import COMPARISONS, Comparison
from xgap_analysis.experiments.study import Study
from xgap_analysis.scoring import ScoreFunction, Scorer
from xgap_analysis.views import Precomputed
from xgap_analysis.views.native import native_view

LABEL, PAIR = "label", "pair"  # label sets: what the labels say, and one item in several modalities
SHORT = {("image", "image"): "I", ("text", "text"): "T", ("image", "text"): "OTI", ("text", "image"): "OVI"}


def study_of_features(
    features: Sequence[FeaturesLike] | Mapping[str, FeaturesLike],
    labels: RelevanceLike | None = None,
    comparisons: Sequence[str] | None = None,
    corrections: Sequence[str | Correction] = ("none",),
    *,
    scorers: Sequence[str | Scorer | ScoreFunction] = ("cosine",),
    calibration: Sequence[FeaturesLike] | Mapping[str, FeaturesLike] | None = None,
    name: str = "features",
    split: str = "all",
) -> Study:
    """A study of features of two or more modalities, with every correction that needs no model.

    Args:
        features: `[n, d]` each, one for each modality (image, text, audio, ...), of one dimension d: a list, or a
            mapping from the modality's name, of `Features` or arrays. Row i of each array is item i; arrays without a
            name are a, b, c, ...
        labels: id to label, of all modalities, or one list where they all have the same items; items that share a label
            are relevant to each other. Without labels, items of one id are, which says nothing within a modality.
        comparisons: of any two modalities, by the names of their spaces (`audio-audio`, `audio-video`; images and texts
            are `I-I`, `I-T`, ...); None takes all that the labels can evaluate.
        corrections, scorers: as in `Study`; corrections that read a model's projection have a note instead of a value.
        calibration: other features of the same spaces, in the same order, which corrections are fitted on.
        name, split: of the data, for the table; the model's name is from the provenance of the first features.

    An id stands for one item in all modalities, so that features of one origin (images, and their inversions) exclude
    self-matches across files too.

    Raises:
        XgapError: different dimensions, two features of one space and origin, rows that are paired by number and not
            equally many, or an unknown comparison or correction.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> vectors = np.random.default_rng(0).normal(size=(20, 8))
        >>> audio = xg.Features(vectors, range(20), space="audio", origin="audio")
        >>> video = xg.Features(vectors + 0.1, range(20), space="video", origin="video")
        >>> study = xg.study_of_features([audio, video], {str(i): str(i // 4) for i in range(20)})
        >>> xg.main_rows(study.run())[["comparison", "metric"]]
            comparison metric
        0  audio-audio     ap
        1  audio-video     ap
        2  video-audio     ap
        3  video-video     ap
    """
    features = as_modalities(features)
    if labels is not None:
        labels = _known(labels_by_id(labels, features))
    calibration = None if calibration is None else as_modalities(calibration, of="calibration")
    if len(features) < 2:
        raise XgapError(f"a study of features compares two modalities or more, not {len(features)}")
    _check(features)
    if calibration is not None and [_short(f) for f in calibration] != [_short(f) for f in features]:
        given = ", ".join(f.space for f in calibration)
        raise XgapError(
            f"the calibration features are of {given}; give those of {', '.join(f.space for f in features)}"
        )
    if calibration is not None and {f.dim for f in calibration} != {features[0].dim}:
        raise XgapError("the calibration features have other dimensions than the features of the study")
    known = _comparisons(features)
    names = list(comparisons or (n for n, c in known.items() if labels is not None or c.query != c.gallery))
    for wanted in names:
        if wanted not in known:
            raise unknown_name("comparison", wanted, known)
    chosen = [known[n] for n in names]
    chosen = [_with_claim(c, names) for c in chosen]
    splits = {} if calibration is None else {"train": lambda: _dataset(name, "calibration", calibration, labels)}
    data = replace(_dataset(name, split, features, labels), splits=splits)
    model = Precomputed(str(features[0].provenance.get("model", "features")))
    return Study([model], [data], chosen, corrections, scorers, progress=False)


def study_of_files(
    paths: Sequence[Path | str],
    labels: Path | None = None,
    spaces: Sequence[str] = (),
    comparisons: Sequence[str] | None = None,
    corrections: Sequence[str | Correction] = ("none",),
    keys: Sequence[str] = (),
) -> Study:
    """A study of files of features (see `load_features`).

    Args:
        paths: one for each modality.
        labels: a table with a column `label`, and `id` where the ids are not the running numbers of the rows. Where it
            has a column `split`, the items of `train` are what corrections are fitted on, and those of `test` are
            evaluated (where there are none, those of `val`).
        spaces: of each file, where the files do not say it; the files' names by default.
        comparisons, corrections: as in `study_of_features`.
        keys: the arrays or columns that hold the vectors of each file, or one for all, where they have other names.

    Raises:
        XgapError: fewer than two files, spaces or keys that do not fit them, one that cannot be read, no item with a
            label, or what `study_of_features` refuses.
    """
    files = [Path(path) for path in paths]
    if len(files) < 2:
        given = "one alone" if files else "none"
        raise XgapError(f"a study of features compares two files or more, one for each modality; {given} is given")
    if len(spaces) not in (0, len(files)):
        raise XgapError(f"{len(files)} files of features have {len(files)} spaces, or none, not {len(spaces)}")
    if len(keys) not in (0, 1, len(files)):
        raise XgapError(f"the vectors of {len(files)} files have one key or {len(files)}, not {len(keys)}")
    each = [_key_for(path, keys[min(k, len(keys) - 1)] if keys else None) for k, path in enumerate(files)]
    features = []
    for k, path in enumerate(files):
        try:
            features.append(load_features(path, space=spaces[k] if spaces else None, key=each[k]))
        except XgapError as error:
            if "does not say which space" not in str(error):
                raise
            features.append(load_features(path, space=path.stem, key=each[k]))
    _check(features)
    of, splits = read_labels(labels) if labels is not None else (None, {})
    calibration, evaluated = None, "all"
    if "train" in splits.values():
        evaluated = "test" if "test" in splits.values() else "val"
        calibration = [_of(f, splits, "train") for f in features]
        features = [_of(f, splits, evaluated) for f in features]
    name = "+".join(path.stem for path in files)
    return study_of_features(
        features, of, comparisons, corrections, calibration=calibration, name=name, split=evaluated
    )


def _check(features: Sequence[Features]) -> None:
    check_modalities(features)
    names = [_short(f) for f in features]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        what = f"two of the features are of {twice}, and a study compares different modalities"
        raise XgapError(f"{what}; for a query set and a gallery of one space, use retrieval(query, gallery, ...)")


def _known(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels by id; missing ones (None, NaN, -1) are left out, and counted in a warning."""
    texts = {item: label_text(label) for item, label in labels.items()}
    kept = {item: label for item, label in texts.items() if label is not None}
    if len(kept) < len(texts):
        notice(f"{len(texts) - len(kept)} of {len(texts)} labels are missing; these items belong to no class")
    return kept


def _key_for(path: Path, key: str | None) -> str | None:
    """The key of a file; a `.npy` file, or a folder of them, holds one array without a name."""
    return None if path.is_dir() or path.suffix == ".npy" else key


def _of(features: Features, splits: Mapping[str, str], split: str) -> Features:
    chosen = [i for i in features.ids if splits.get(i) == split]
    if not chosen:
        raise XgapError(f"no id of the {features.space} features, such as {features.ids[0]!r}, is of split {split!r}")
    return features.select(chosen)


def _short(features: Features) -> str:
    """A modality's name in a comparison: I, T, OTI and OVI as the field has them, or its space."""
    return SHORT.get((features.origin, features.space), modality_name(features))


def _comparisons(features: Sequence[Features]) -> dict[str, Comparison]:
    views = {_short(f): native_view(modality_name(f), f.space) for f in features}
    return {f"{a}-{b}": Comparison(f"{a}-{b}", views[a], views[b]) for a, b in product(views, views)}


def _with_claim(own: Comparison, names: Sequence[str]) -> Comparison:
    """An inverted query is compared with the native one, where both are in the study."""
    usual = COMPARISONS.get(own.name)
    if usual is None or usual.task != own.task or usual.baseline not in names:
        return own
    return replace(own, baseline=usual.baseline, claim=usual.claim)


def _dataset(name: str, split: str, features: Sequence[Features], labels: Mapping[str, str] | None) -> Dataset:
    pairs = {i: i for f in features for i in f.ids}
    own = {} if labels is None else {LABEL: labels}
    first = {f.origin: f for f in reversed(features)}  # one id, one item, also across the files
    items = {modality_name(f): Vectors(replace(f, items=first[f.origin].items)) for f in features}
    return Dataset(name, split, labels={**own, PAIR: pairs}, items=items)
