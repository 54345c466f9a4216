"""The gap metrics of an evaluation: pairs of two modalities, misalignment within each, hubness."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from xgap_analysis.core.calibration import pairs_by_label
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import (
    gap_report,
    gap_table,
    hubness,
    misalignment,
    pooled_misalignment,
    sampled_misalignment,
)

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


def pairs_of(
    evaluation: "Evaluation", x: Features | None = None, y: Features | None = None
) -> tuple[Features, Features]:
    """Images and their captions: each image with the first text of its label, under the image's id.

    Args:
        evaluation: whose dataset says what is a pair.
        x, y: of the two modalities, such as after a correction; the native features by default.

    Raises:
        XgapError: no image shares a label with a text.
    """
    first, second = _two(evaluation)
    x, y = x or evaluation.native(first, "all"), y or evaluation.native(second, "all")
    labels = evaluation.data.labels.get(
        "pair", evaluation.labels
    )  # items of one class are no pairs, where pairs are known
    rows = pairs_by_label(x, y, labels) if labels else []
    if not rows:
        what = f"no {x.origin} of dataset {evaluation.data.name!r} shares a label ({evaluation.label_set!r})"
        raise XgapError(f"{what} with a {y.origin}")
    paired = [x.ids[i] for i, _ in rows]  # a caption may stand beside several images
    return x.select(paired), replace(y, vectors=y.vectors[[j for _, j in rows]], ids=paired)


def gaps_of(evaluation: "Evaluation", sample: int | None = None) -> pd.DataFrame:
    """One row of gap metrics; see `Study.gaps`."""
    sets = [evaluation.native(modality, "all") for modality in _two(evaluation)]
    pairs = sets if evaluation.encoder is None else pairs_of(evaluation)  # features are paired by id
    row = gap_report(*pairs, sample=sample)
    relevance = evaluation.data.relevance(evaluation.label_set)
    for features in sets:
        name = f"misalignment_{features.space}"
        row = row.assign(**within(features, evaluation.labels, relevance, sample).add_prefix(name).to_dict())
    hubs = hubness(sets[0], sets[0], min(10, len(sets[0]) - 1)).add_prefix("hubness_")  # of small sets, all neighbours
    data = evaluation.data
    about = {"model": evaluation.model.name, "dataset": data.name, "split": data.split_name}
    about["label_set"] = evaluation.label_set
    parts = (pd.DataFrame([about]), row.reset_index(drop=True), hubs.reset_index(drop=True))
    return pd.concat(parts, axis=1)


def gap_table_of(evaluation: "Evaluation") -> pd.DataFrame:
    """The gap between every pair of modalities; see `Study.gap_table`.

    Raises:
        XgapError: a dataset with items of one modality only that the model encodes.
    """
    sets, data, labels = modalities_of(evaluation), evaluation.data, evaluation.labels
    table = gap_table(sets, data.labels.get("pair", labels) or None, groups=labels or None)
    about = {"model": evaluation.model.name, "dataset": data.name, "split": data.split_name}
    return pd.concat([pd.DataFrame([about | {"label_set": evaluation.label_set}] * len(table)), table], axis=1)


def modalities_of(evaluation: "Evaluation") -> dict[str, Features]:
    """The native features of every modality of the data that the model encodes, by its name.

    Raises:
        XgapError: fewer than two such modalities.
    """
    data, model = evaluation.data, evaluation.encoder
    there = [m for m, items in data.items.items() if len(items) and (model is None or m in model.towers)]
    if len(there) < 2:
        what = f"a gap lies between two modalities, and of dataset {data.name!r} the model {evaluation.model.name!r}"
        raise XgapError(f"{what} encodes {' and '.join(there) or 'none'}")
    return {modality: evaluation.native(modality, "all") for modality in there}


def _two(evaluation: "Evaluation") -> tuple[str, str]:
    """The two modalities that a gap lies between: images and texts, or the first two that there are."""
    there = list(evaluation.data.items)
    if len(there) < 2:
        raise XgapError(f"a gap lies between two modalities, and dataset {evaluation.data.name!r} has {len(there)}")
    return there[0], there[1]


def within(
    features: Features, labels: Mapping[str, str], relevance: Relevance, sample: int | None = None
) -> "pd.Series[float]":
    """Misalignment within a modality: per anchor (no name) and `_pooled`; NaN where no two items share a label."""
    anchors = _anchors(features, labels)
    if not len(anchors):
        return pd.Series({"": math.nan, "_pooled": math.nan})
    row = {"": float(misalignment(anchors, features, relevance)["misalignment"].mean())}
    if sample is None:
        return pd.Series(row | {"_pooled": pooled_misalignment(features, features, relevance)})
    found = sampled_misalignment(features, features, relevance, pairs=sample)
    return pd.Series(row | {"_pooled": found.mean, "_pooled_low": found.low, "_pooled_high": found.high})


def misalignment_by_anchor(evaluation: "Evaluation", modality: str) -> "pd.Series[float] | None":
    """The misalignment of each item of a modality that shares its label with another; None where none does."""
    features = evaluation.native(modality, "all")
    anchors = _anchors(features, evaluation.labels)
    if not len(anchors):
        return None
    return misalignment(anchors, features, evaluation.data.relevance(evaluation.label_set))["misalignment"]


def _anchors(features: Features, labels: Mapping[str, str]) -> Features:
    """The items that share their label with another; the rest have no pair."""
    sizes = Counter(labels[i] for i in features.ids if i in labels)
    return features.select(i for i in features.ids if i in labels and sizes[labels[i]] > 1)
