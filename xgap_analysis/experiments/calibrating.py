"""What a correction is fitted on in an evaluation, and whether that overlaps with what is evaluated."""

from typing import TYPE_CHECKING, Any

import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import Calibration, Correction
from xgap_analysis.datasets.items import AnyItems, Vectors
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.models import Model
from xgap_analysis.views.native import native_view

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation

MODEL = "the model"  # what a correction that reads no items is fitted on


def calibration_for(evaluation: "Evaluation", by: Correction) -> Calibration:
    """The calibration set of a correction: the model alone, or all modalities and class names of the fit split.

    Raises:
        XgapError: a dataset without that split.
    """
    model, data = evaluation.encoder, evaluation.fit_data
    if by.from_model and model is not None:
        return _of_model(evaluation, model)
    if data is None:
        what = f"correction {str(by)!r} is fitted on the split {evaluation.study.fit_split!r}"
        raise XgapError(f"{what}, which dataset {evaluation.data.name!r} does not have")
    words = tuple(data.class_names.get(evaluation.label_set, {}).values())
    features: dict[str, Features] = {}
    for modality, items in data.items.items():
        if model is not None and modality not in model.towers:
            continue  # such as texts, of a model that has seen images alone
        if modality not in evaluation.kept.calibrated:  # once, for all corrections
            made = native_view(modality)(evaluation.model, items, **evaluation.context())
            assert isinstance(made, Features)  # one vector per item
            evaluation.kept.calibrated[modality] = made
        features.setdefault(evaluation.kept.calibrated[modality].space, evaluation.kept.calibrated[modality])
    missing = [m for m in evaluation.data.items if m in ("image", "text") and m not in data.items]
    if missing:
        split, name = evaluation.study.fit_split, evaluation.data.name
        raise XgapError(
            f"corrections are fitted on images and texts, and split {split!r} of {name!r} has no {missing[0]}s"
        )
    labels = data.labels.get("pair") or data.labels.get(evaluation.label_set, {})  # as `pairs_of`
    queries = {f.space: data.query_ids[m] for m, f in evaluation.kept.calibrated.items() if m in data.query_ids}
    return Calibration(features, data.split_name, model, words, labels, queries)


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
