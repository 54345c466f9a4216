"""How fast explorers answer in the kernel: ten thousand points in the gap map, a selection at a time.

    python benchmarks/explorers.py

Nothing is sent to a browser here; what is timed is the kernel's own work for one gesture.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.experiments import Evaluation
from xgap_analysis.widgets import GapMap, NeighbourExplorer, link
from xgap_analysis.widgets.scene import make_scene

ITEMS, DIMENSIONS, LABELS, GESTURES = 5000, 512, 1000, 40  # items a side


def world() -> Evaluation:
    """Five thousand images and captions of a thousand labels, as clusters on both ends of a gap."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(LABELS, DIMENSIONS, generator=draw)
    gap = torch.randn(DIMENSIONS, generator=draw)

    def side(space: str, sign: int, count: int) -> xg.Features:
        rows = torch.arange(count) % LABELS
        vectors = centres[rows] + 0.7 * torch.randn(count, DIMENSIONS, generator=draw) + sign * gap
        return xg.Features(vectors, [f"{space}/{k}" for k in range(count)], space, space)

    images, texts = side("image", 1, ITEMS), side("text", -1, ITEMS)
    label = {item: str(k % LABELS) for of in (images, texts) for k, item in enumerate(of.ids)}
    classes = xg.Features(centres - gap, [str(k) for k in range(LABELS)], "text", "text")
    data = xg.Dataset(
        name="clusters",
        split_name="test",
        images=xg.Images(images.ids, lambda item: Image.new("RGB", (224, 224), "grey")),
        texts=xg.Texts(texts.ids, [f"caption {k} of label {k % LABELS}" for k in range(ITEMS)]),
        labels={"cluster": label},
        class_names={"cluster": {str(k): f"cluster {k}" for k in range(LABELS)}},
    )
    model = xg.load_model("tiny-untrained", device="cpu")  # it encodes nothing: every view is there
    (evaluation,) = xg.Study([model], [data], ["I-I"], progress=False).evaluations()
    image, text = xg.view("image"), xg.view("text")
    known = {(image, "all"): images, (text, "all"): texts, (text, "classes"): classes}
    evaluation.kept.views |= {(*key, None): features for key, features in known.items()}
    return evaluation


def timed(name: str, gesture: Callable[[int], object], times: int = GESTURES) -> dict[str, object]:
    """Median and worst of a gesture in milliseconds, and the median of its processor time: others disturb it less."""
    took, used = [], []
    for k in range(times):
        start, before = time.perf_counter(), time.process_time()
        gesture(k)
        took.append(1000 * (time.perf_counter() - start))
        used.append(1000 * (time.process_time() - before))
    middle = {"median_ms": statistics.median(took), "worst_ms": max(took), "median_cpu_ms": statistics.median(used)}
    return {"gesture": name, **{name: round(ms, 1) for name, ms in middle.items()}}


def main() -> None:
    """Prints one line of JSON for each gesture."""
    evaluation = world()
    points = np.random.default_rng(0).integers(0, 2 * ITEMS, 4 * GESTURES)

    start = time.perf_counter()
    gapmap = GapMap(evaluation)
    print(json.dumps({"gesture": "make the map", "ms": round(1000 * (time.perf_counter() - start), 1)}))
    assert gapmap._map is not None, gapmap.error
    plot = gapmap._map._plot

    def click(k: int) -> None:
        plot.selection = np.array([points[k]], dtype="uint32")

    def hover(k: int) -> None:
        plot.hovering = int(points[k])

    def move(k: int) -> None:
        gapmap._show(make_scene(evaluation, "gap", 0.1 * (1 + k % 10)))

    def slide(k: int) -> None:
        gapmap._controls.shift.value = 0.1 * (1 + k % 10)

    print(json.dumps(timed(f"select one of {2 * ITEMS} points", click)))
    print(json.dumps(timed("point at one", hover)))
    gapmap._controls.colour.value = "similarity"
    print(json.dumps(timed("select one, coloured by similarity", lambda k: click(GESTURES + k))))
    gapmap._controls.colour.value = "modality"
    print(json.dumps(timed("move the points", move, 10)))
    print(json.dumps(timed("move the points, then the numbers (retrieval and zero-shot)", slide, 10)))
    explorer = NeighbourExplorer(evaluation, ["I-I"])
    assert explorer.error == ""
    print(
        json.dumps(
            timed(f"neighbours of one of {ITEMS} images", lambda k: explorer.choose(f"image/{points[k] % ITEMS}"))
        )
    )
    link(gapmap, explorer)
    print(json.dumps(timed("select one, with its neighbours in a linked explorer", lambda k: click(2 * GESTURES + k))))
    gapmap._clicked([])
    lasso = np.arange(0, 2 * ITEMS, 5, dtype="uint32")
    print(json.dumps(timed(f"lasso {len(lasso)} points", lambda k: plot.set_trait("selection", lasso[k:]), 10)))
    print(json.dumps(timed("search among all items", lambda k: gapmap._finder.show(f"label {k}"), 10)))
    print(json.dumps(timed("save a figure and a table", lambda _: explorer.save(), 3)))
    assert gapmap.error == explorer.error == ""


if __name__ == "__main__":
    main()
