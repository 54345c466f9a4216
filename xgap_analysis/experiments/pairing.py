"""Query and gallery of a comparison in an evaluation, corrected, and how they are scored."""

from typing import TYPE_CHECKING

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.corrections import Correction, QueryGallery, correction
from xgap_analysis.corrections.protocol import AnyMap, Fit
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.scoring import ScoreFunction, Scorer
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

    def query(mapped: AnyMap | None = None) -> AnyFeatures:
        found = _mapped(evaluation, comparison.query, "queries", seed, mapped)
        if comparison.task == "zero-shot":
            named = set(evaluation.classes.ids)
            found = found.select(i for i in found.ids if evaluation.labels.get(i) in named)
        if not len(found):
            data = evaluation.data
            what = f"dataset {data.name!r} ({data.split_name}) has no {comparison.query.modality}"
            raise XgapError(f"{what} that can be a query of {comparison.name} by the labels {evaluation.label_set!r}")
        return found

    def gallery(mapped: AnyMap | None = None) -> AnyFeatures:
        return _mapped(evaluation, comparison.gallery, _gallery_part(comparison), seed, mapped)

    if str(correction(by)) == "none":
        return QueryGallery(query(), gallery(), scorer=scorer)
    return evaluation.fitted(by).apply_to(query, gallery, scorer)


def _gallery_part(comparison: Comparison) -> str:
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
