"""What a correction is fitted on in an evaluation, and whether that overlaps with what is evaluated."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.mixed import mixed
from xgap_analysis.corrections import Calibration, Correction
from xgap_analysis.datasets import Dataset
from xgap_analysis.datasets.dataset import splits_there
from xgap_analysis.datasets.items import AnyItems, Vectors
from xgap_analysis.datasets.joined import has_sections, sections_of
from xgap_analysis.datasets.parts import Parts
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.models import Model
from xgap_analysis.views.native import native_view

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation

MODEL = "the model"  # what a correction that reads no items is fitted on


def calibration_for(evaluation: "Evaluation", by: Correction) -> Calibration:
    """The calibration set of a correction: the model alone, or all modalities and class names of the fit split.

    Sections of documents are among the items of their modality, since no tower encodes a document.

    Raises:
        XgapError: a dataset without that split.
    """
    model, data = evaluation.encoder, evaluation.fit_data
    if by.from_model and model is not None:
        return _of_model(evaluation, model)
    if data is None:
        what = f"correction {str(by)!r} is fitted on the split {evaluation.study.fit_split!r}"
        raise XgapError(f"{what}, which dataset {evaluation.data.name!r} does not have{splits_there(evaluation.data)}")
    words = tuple(data.class_names.get(evaluation.label_set, {}).values())
    features: dict[str, Features] = {}
    for modality, items in data.items.items():
        if model is None or modality in model.towers:  # not texts, say, of a model that has seen images alone
            made = _calibrated(evaluation, modality, items)
            features.setdefault(made.space, made)
    queries = {f.space: data.query_ids[m] for m, f in evaluation.kept.calibrated.items() if m in data.query_ids}
    for name, own, sought in _sections(data, model):
        made = _calibrated(evaluation, name, own.items)
        before = features.get(made.space)
        # Texts beside documents are the queries of these; queries that are documents are known by their ids.
        query_ids = [i for i, owner in zip(own.items.ids, own.owners, strict=True) if owner in sought]
        if query_ids or before is not None:
            queries.setdefault(made.space, query_ids or before.ids)  # type: ignore[union-attr]
        features[made.space] = made if before is None else mixed(before, made)
    missing = [m for m in evaluation.data.items if m in ("image", "text") and m not in data.items]
    if missing:
        split, name = evaluation.study.fit_split, evaluation.data.name
        raise XgapError(
            f"corrections are fitted on images and texts, and split {split!r} of {name!r} has no {missing[0]}s"
        )
    labels = data.labels.get("pair") or data.labels.get(evaluation.label_set, {})  # as `pairs_of`
    return Calibration(features, data.split_name, model, words, labels, queries)


def _calibrated(evaluation: "Evaluation", name: str, items: AnyItems) -> Features:
    """The native features of items of the fit split, made once for all corrections."""
    if name not in evaluation.kept.calibrated:
        made = native_view(items.modality)(evaluation.model, items, **evaluation.context())
        assert isinstance(made, Features)  # one vector per item
        evaluation.kept.calibrated[name] = made
    return evaluation.kept.calibrated[name]


def _sections(data: Dataset, model: Model | None) -> Iterator[tuple[str, Parts, Collection[str]]]:
    """The sections of documents, which no tower encodes whole: their name, the parts, and the documents that are
    queries.
    """
    for modality, items in data.items.items():
        if model is None or modality in model.towers or not has_sections(items):
            continue
        for name, own in sections_of(items).items():
            if own.modality in model.towers:
                yield f"{modality}/{name}", own, set(data.query_ids.get(modality, ()))


def _of_model(evaluation: "Evaluation", model: Model) -> Calibration:
    """No items, but the model and the dimension of its features, which one item shows."""
    modality, items = next((m, items) for m, items in evaluation.data.items.items() if m in model.towers)
    dim = native_view(modality)(model, items.select(items.ids[:1]), **evaluation.context()).dim
    empty = {space: Features(torch.empty(0, dim), (), space, space) for space in model.towers}
    return Calibration(empty, MODEL, model)


def fitted_on(evaluation: "Evaluation", by: Correction) -> str:
    """What a table says that a correction was fitted on."""
    if str(by) == "none":
        return ""
    if by.from_model and evaluation.encoder is not None:
        return MODEL
    return "" if evaluation.fit_data is None else evaluation.fit_data.split_name


def is_transductive(evaluation: "Evaluation", by: Correction, comparison: Comparison) -> bool:
    """Whether a correction sees what is evaluated: by its own nature, or because it is fitted on the same items."""
    fit = evaluation.fit_data
    if str(by) == "none" or by.transductive or by.from_model or fit is None:
        return str(by) != "none" and by.transductive
    data, (query, gallery) = evaluation.data, (view.modality for view in comparison.views)
    evaluated = _contents(data.items_of(query).select(data.queries(query)))
    if comparison.task == "zero-shot":
        evaluated |= set(data.class_names.get(evaluation.label_set, {}))  # the ids of class texts are the labels
    elif query == gallery:
        evaluated |= _contents(data.items_of(gallery).select(data.gallery(gallery)))
    else:
        evaluated = evaluated.union(*map(_contents, data.items.values()))
    return not evaluated.isdisjoint(set[Any]().union(*map(_contents, fit.items.values())))


def _contents(items: AnyItems) -> set[Any]:
    """What shows whether two splits share an item: ids, or the vectors where ids may be row numbers."""
    if isinstance(items, Vectors):
        return {row.tobytes() for row in items.features.vectors.cpu().numpy()}
    return set(items.ids)
