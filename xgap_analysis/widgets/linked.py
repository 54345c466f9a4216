"""A gap map beside neighbours: what is chosen in one is chosen in the other."""

from typing import Any

import ipywidgets

from xgap_analysis.core.errors import XgapError
from xgap_analysis.widgets.gapmap import GapMap
from xgap_analysis.widgets.items import named
from xgap_analysis.widgets.neighbours import NeighbourExplorer


def link(gapmap: GapMap, *explorers: NeighbourExplorer) -> ipywidgets.VBox:
    """A gap map with explorers of neighbours below it: a point that is clicked becomes the query of its modality.

    The other way round, the query of an explorer is the point that the map selects and joins to its pairs. A lasso
    leaves the queries as they are, and so does a point that is no query of any explorer.

    Args:
        gapmap: the map.
        explorers: of the same evaluation; one whose queries are images, say, and one whose queries are texts.

    Returns:
        A box with all of them, which the last expression of a cell shows.

    Raises:
        XgapError: no explorer, or one of another model or dataset than the map's.

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=3, progress=False).evaluations()
        >>> from xgap_analysis import widgets
        >>> gapmap, images = widgets.GapMap(evaluation), widgets.NeighbourExplorer(evaluation, ["I-I", "I-T"])
        >>> linked = widgets.link(gapmap, images)
        >>> gapmap.select("image", evaluation.data.images.ids[2])  # as a click does
        >>> images.query == evaluation.data.images.ids[2]
        True
    """
    if not explorers:
        raise XgapError("link joins a map to explorers of neighbours; give one at least: link(gapmap, explorer)")
    for explorer in explorers:
        _check(gapmap, explorer)

    def clicked(change: Any) -> None:
        if len(change["new"]) == 1:  # a lasso names no query
            ((modality, item),) = change["new"]
            for explorer in explorers:
                if explorer.space == modality and explorer.query != item and explorer.offers(item):
                    explorer.choose(item)

    def chosen(change: Any) -> None:
        space = change["owner"].space
        if gapmap.made:
            gapmap.guarded(lambda: gapmap.select(space, change["new"]))

    gapmap.observe(clicked, "selected")
    for explorer in explorers:
        explorer.observe(chosen, "query")
    return ipywidgets.VBox([gapmap, *explorers])


def _check(gapmap: GapMap, explorer: NeighbourExplorer) -> None:
    """Refuses an explorer whose items or features are not those of the map."""
    shown, wanted = explorer.evaluation, gapmap.evaluation
    if shown is wanted:
        return
    names = [named(wanted), named(shown)]
    same_items = all(list(shown.data.items_of(m).ids) == list(wanted.data.items_of(m).ids) for m in ("image", "text"))
    if names[0] != names[1] or not same_items:
        raise XgapError(f"the map shows {names[0]}, the explorer {names[1]}: make both of one evaluation")
