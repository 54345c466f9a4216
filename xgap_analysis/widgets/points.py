"""Points of the gap map in words, and the map as a figure."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from xgap_analysis.widgets.items import Items, shortened
from xgap_analysis.widgets.scene import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OFFERED = 30  # search results of a modality in the list
LISTED = 12  # selected items that are described
HOW = (
    "Point at a dot, click it to join it to its pairs, or select several with the lasso (the second button) or, in the "
    "list, with Shift and the arrow keys."
)
AXES = {  # what the two axes of a map are
    "gap": ("along the gap: texts to images", "first principal component across it"),
    "pca": ("first principal component", "second"),
    "umap": ("", ""),
}


def points_html(scene: Scene, items: Items, shown: Sequence[int], joined: bool) -> str:
    """What points are: one with its image and words, or several as a list.

    Args:
        scene: holds them.
        items: images and words.
        shown: indices of the points.
        joined: say to how many items of the other modality the one point is joined.
    """
    if not shown:
        return HOW
    if len(shown) > 1:
        return _listing(scene, items, shown)
    modality, item = scene.item(shown[0])
    image = f"<img src='{items.thumbnail(item)}' alt=''><br>" if modality == "image" else ""
    others = "texts" if modality == "image" else "images"
    pairs = f"<br>joined to {len(scene.partners(shown[0]))} {others}" if joined else ""
    return f"{image}<b>{modality}</b> {escape(items.words(item, modality))}{pairs}"


def _listing(scene: Scene, items: Items, shown: Sequence[int]) -> str:
    """How many of each modality, then the first of them."""
    selected = [scene.item(index) for index in shown]
    counts = Counter(modality for modality, _ in selected)
    lines = ["<b>selected</b> " + ", ".join(f"{n} {modality}{'s' * (n > 1)}" for modality, n in counts.items())]
    for modality, item in selected[:LISTED]:
        image = f"<img class='xgap-icon' src='{items.thumbnail(item)}' alt=''> " if modality == "image" else ""
        lines.append(f"{image}{escape(shortened(items.words(item, modality), 60))}")
    if len(selected) > LISTED:
        lines.append(f"and {len(selected) - LISTED} more; the saved table marks all")
    return "<br>".join(lines)


def found_points(scene: Scene, items: Items, words: str) -> list[tuple[str, int]]:
    """Label and point of the texts and images that words find."""
    images, texts = scene.native
    return [
        (f"{modality}: {shortened(items.words(item, modality), 60)}", scene.index(modality, item))
        for modality, ids in (("text", texts.ids), ("image", images.ids))
        for item in items.search(words, ids, modality)[:OFFERED]
    ]


def scene_figure(scene: Scene, chosen: Sequence[int], by_similarity: bool) -> "Figure":
    """The map as a figure, with the chosen points joined to their pairs."""
    from xgap_analysis.plots import plane
    from xgap_analysis.plots.style import plain

    n, points = len(scene.native[0]), scene.points
    colours: dict[str, Any] = {}
    if by_similarity and chosen:
        values = scene.similarity(chosen[0])
        colours = {"images_colour": values[:n], "texts_colour": values[n:]}
    axes = plane(points[:n], points[n:], scene.lines(chosen), **colours)
    axes.set(xlabel=AXES[scene.plane.method][0], ylabel=AXES[scene.plane.method][1])
    axes.set_title(f"{plain(scene.evaluation.model.name)}, λ = {scene.lambda_:g}", fontsize=10)
    return axes.get_figure(root=True)  # type: ignore[return-value]


def axes_words(scene: Scene) -> str:
    """What can be read from the axes."""
    if not scene.plane.linear:
        return "UMAP: near points are alike; distances and directions say nothing."
    across, up = AXES[scene.plane.method]
    return f"→ {across}; ↑ {up}. The plane shows {scene.plane.share:.0%} of the variance."
