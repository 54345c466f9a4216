"""Query and gallery of a comparison in an evaluation, corrected, and how they are scored."""

from typing import TYPE_CHECKING

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.corrections import Correction, QueryGallery, correction
from xgap_analysis.corrections.protocol import AnyMap, Fit, Given
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.experiments.learned import fit_split_of
from xgap_analysis.scoring import ScoreFunction, Scorer
from xgap_analysis.scoring import scorer as as_scorer
from xgap_analysis.scoring.learned import fitted
from xgap_analysis.views import View

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


def pair_of(
    evaluation: "Evaluation",
    comparison: Comparison,
    by: str | Correction | Fit,
    scorer: str | Scorer | ScoreFunction,
    seed: int,
) -> QueryGallery:
    """Query and gallery of a comparison; see `Evaluation.pair`."""
    if str(correction(by)) != "none":
        _check_depth(comparison, by)
    scorer = fitted_scorer(evaluation, comparison, by, scorer, seed)
    query, gallery = roles_of(evaluation, comparison, seed)
    if str(correction(by)) == "none":
        return QueryGallery(query(None), gallery(None), scorer=scorer)
    return evaluation.fitted(by).apply_to(query, gallery, scorer)


def roles_of(evaluation: "Evaluation", comparison: Comparison, seed: int) -> tuple[Given, Given]:
    """Query and gallery of a comparison as functions of what maps features of their role."""

    def query(mapped: AnyMap | None) -> AnyFeatures:
        found = _mapped(evaluation, comparison.query, "queries", seed, mapped)
        if comparison.task == "zero-shot":
            named = set(evaluation.classes.ids)
            found = found.select(i for i in found.ids if evaluation.labels.get(i) in named)
        if not len(found):
            data = evaluation.data
            what = f"dataset {data.name!r} ({data.split_name}) has no {comparison.query.modality}"
            raise XgapError(f"{what} that can be a query of {comparison.name} by the labels {evaluation.label_set!r}")
        return found

    def gallery(mapped: AnyMap | None) -> AnyFeatures:
        found = _mapped(evaluation, comparison.gallery, gallery_part(comparison), seed, mapped)
        # A mixed gallery has no queries of the query's modality, where these are apart from what is searched.
        apart = set(evaluation.data.query_ids.get(comparison.query.modality, ()))
        if "+" not in comparison.gallery.modality or apart.isdisjoint(found.ids):
            return found
        return found.select(i for i in found.ids if i not in apart)

    return query, gallery


def fitted_scorer(
    evaluation: "Evaluation",
    comparison: Comparison,
    by: str | Correction | Fit,
    wanted: str | Scorer | ScoreFunction,
    seed: int,
) -> Scorer:
    """A scorer, whose learned parts are fitted to the same comparison and correction on the fit split.

    Raises:
        XgapError: a dataset without that split, or what the fit refuses.
    """
    scoring = as_scorer(wanted)
    if not scoring.is_unfitted:
        return scoring
    own = correction(by)
    key = (str(scoring), scoring.function, comparison, str(own), own.makers, seed if comparison.is_seeded else None)
    if key not in evaluation.kept.scorers:
        there = fit_split_of(evaluation, scoring)
        maps = (None, None) if str(own) == "none" else evaluation.fitted(own).maps_to_score
        query, gallery = (role(by) for role, by in zip(roles_of(there, comparison, seed), maps, strict=True))
        pairs = there.relevance(comparison).pairs(query.ids, gallery.ids, query.has_items_of(gallery))
        split = there.data.split_name
        evaluation.kept.scorers[key] = fitted(scoring, query, gallery, pairs=pairs, split=split)
    return evaluation.kept.scorers[key]


def _check_depth(comparison: Comparison, by: str | Correction | Fit) -> None:
    """Refuses a correction of features of an earlier layer: it is fitted on the model's own.

    Raises:
        XgapError: which view.
    """
    views = list(comparison.views)
    for own in views:  # which grows by the views among arguments
        views += [argument for argument in own.arguments if isinstance(argument, View)]
        if own.options.get("layer") is not None:
            what = f"correction {correction(by)} is fitted on the model's own features, and {own} has those of a layer"
            raise XgapError(f"{what}; compare layers without a correction")


def gallery_part(comparison: Comparison) -> str:
    """The part of the items that is searched: of another modality, all."""
    if comparison.task == "zero-shot":
        return "classes"
    return "gallery" if comparison.query.modality == comparison.gallery.modality else "all"


def _mapped(evaluation: "Evaluation", own: View, part: str, seed: int, by: AnyMap | None) -> AnyFeatures:
    """A view's features after a correction; a view of several spaces corrects each of its parts itself."""
    if by is None:
        return evaluation.view(own, part, seed)
    if not own.takes("transform"):
        made: AnyFeatures = by(evaluation.view(own, part, seed))
        return made
    items = evaluation.items(own.modality, evaluation.part_of(own, part))
    return own(evaluation.model, items, transform=by, **evaluation.context(seed))
