"""What a query finds, as images."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import HasRelevance, Relevance
from xgap_analysis.corrections import QueryGallery
from xgap_analysis.datasets.items import Images
from xgap_analysis.metrics import nearest_items
from xgap_analysis.plots.ranked import ranked


def neighbours(
    query_id: str,
    rankings: Mapping[str, tuple[Features, Features] | QueryGallery],
    images: Images,
    relevance: Relevance | HasRelevance,
    k: int = 8,
) -> Figure:
    """The k nearest images of one query under several comparisons: a row of images each, hits framed and marked.

    Args:
        query_id: an id that every query set holds.
        rankings: a title to (query features, gallery features), or to `Evaluation.pair(...)`; the gallery holds images.
        images: opens the images.
        relevance: what counts as a hit.
        k: images a row.

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=3, progress=False).evaluations()
        >>> query = evaluation.scores("I-I").index[0]
        >>> data, pairs = evaluation.data, {"I-I": evaluation.pair("I-I")}
        >>> figure = xg.plots.neighbours(query, pairs, data.images, data, k=3)
        >>> len(figure.axes)  # the rows of images stand in one
        1
    """
    frames = {}
    for title, pair in rankings.items():
        scored = pair if isinstance(pair, QueryGallery) else QueryGallery(*pair)
        frames[title] = nearest_items(scored.query, scored.gallery, query_id, relevance, k, scored.normalise)
    return ranked(query_id, "image", frames, images)
