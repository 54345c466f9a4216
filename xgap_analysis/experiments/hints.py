"""What a user should know before reading the results of one model on one dataset: a sentence each."""

from typing import TYPE_CHECKING

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.catalog import is_embedded
from xgap_analysis.metrics.verdicts import ENOUGH_GROUPS

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


def hints(evaluation: "Evaluation") -> list[str]:
    """What keeps the results of an embedded model, or of few groups, from saying much; nothing of embedded datasets.

    Only what is known by name is said, and nothing is inferred from pixels: which images an embedded model was trained
    on, and how many groups of queries there are. Few labels of an embedded dataset are the user's own choice.

    Example:
        >>> import xgap_analysis as xg
        >>> from xgap_analysis.experiments.hints import hints
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=3, progress=False).evaluations()
        >>> hints(evaluation)
        []
    """
    from xgap_analysis.models.cards import trained_on

    data = evaluation.data
    if is_embedded(data.name):
        return []
    found = []
    images = trained_on(evaluation.model.name)
    if images and len(data.images):
        what = f"{evaluation.model.name!r} was trained on {images} alone: of other images, such as photographs"
        found.append(f"{what}, its results on {data.name!r} say little; another model is 'ViT-B-32/openai'")
    try:
        groups = len(set(evaluation.labels.values()))
    except XgapError:  # relevance without labels
        return found
    if 0 < groups < ENOUGH_GROUPS:  # listed relevance has none: each query is a group of its own
        what = f"{data.name!r} has {groups} groups of queries (labels of {evaluation.label_set!r})"
        found.append(f"{what}, which are few: no verdict is conclusive with fewer than {ENOUGH_GROUPS}")
    return found
