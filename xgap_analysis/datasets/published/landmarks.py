"""The revisited Oxford and Paris landmarks: cropped queries, and relevance given image by image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import Images
from xgap_analysis.datasets.published.files import listed_images
from xgap_analysis.datasets.published.pickles import read_plain_pickle
from xgap_analysis.datasets.published.protocols import Protocol

LABEL_SETS = {  # relevant, taken out of the ranking; medium first: it is what the papers print
    "medium": (("easy", "hard"), ("junk",)),
    "easy": (("easy",), ("junk", "hard")),
    "hard": (("hard",), ("junk", "easy")),
}
Box = tuple[float, float, float, float]


def load_landmarks(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """ROxford5k or RParis6k under the official protocol, as the split test (there is no other).

    A query's id is `query/<name>`, and it is cropped to its box before anything else is done to it; the label sets are
    `"medium"`, `"easy"` and `"hard"`. The ground truth is read without unpickling it (see `read_plain_pickle`).

    Raises:
        XgapError: a ground truth that is damaged or holds anything but plain data, or images that are not there.

    Source: Radenovic, Iscen, Tolias, Avrithis, Chum, Revisiting Oxford and Paris, CVPR 2018.
    """
    file = folder / protocol.reads["truth"]
    truth = _checked(read_plain_pickle(file), file)
    gallery, queried = truth["imlist"], truth["qimlist"]
    boxes = {f"query/{query}": box for query, box in zip(queried, truth["bbx"], strict=True)}
    paths = {f"query/{query}": f"jpg/{query}.jpg" for query in queried} | {
        image: f"jpg/{image}.jpg" for image in gallery
    }
    files = listed_images(folder, paths, str(file))
    judgements = {}
    for label_set, (wanted, left_out) in LABEL_SETS.items():
        qrels: dict[str, dict[str, float]] = {}
        junk: dict[str, list[str]] = {}
        for query, entries in zip(boxes, truth["gnd"], strict=True):
            qrels[query] = {gallery[i]: 1.0 for of in wanted for i in entries[of]}
            junk[query] = [gallery[i] for of in left_out for i in entries[of]]
        judgements[label_set] = Relevance.from_qrels(qrels, junk)

    def opened(item: str) -> Image.Image:
        image = files.opener(item)
        return image.crop(boxes[item]) if item in boxes else image

    def content(item: str) -> str:
        whole = files.digest_of(item)
        return of_values(whole, "crop", *boxes[item]) if item in boxes else whole

    images = Images(files.ids, opened, content)
    queries = tuple(boxes)
    data = assemble(name, "test", images, image_queries=queries, judgements=judgements, prompt=protocol.prompt)
    return in_splits({"test": lambda: data})


def _checked(truth: Any, file: Path) -> Mapping[str, Any]:
    """The lists `imlist`, `qimlist` and `gnd`, and the box of each query (`bbx`), held to their form."""

    def wrong(what: str) -> XgapError:
        return XgapError(f"{file} is damaged: {what}; it should be the published dict of imlist, qimlist and gnd")

    if not isinstance(truth, dict):
        raise wrong("it holds no dict")
    for key in ("imlist", "qimlist"):
        names = truth.get(key)
        if not isinstance(names, list) or not names or not all(isinstance(x, str) for x in names):
            raise wrong(f"{key} is no list of names")
        if len(set(names)) < len(names):
            raise wrong(f"{key} lists a name twice")
    entries = truth.get("gnd")
    if not isinstance(entries, list) or len(entries) != len(truth["qimlist"]):
        raise wrong("gnd is no list of one entry a query")
    boxes: list[Box] = []
    for query, entry in zip(truth["qimlist"], entries, strict=True):
        box = entry.get("bbx") if isinstance(entry, dict) else None
        if not isinstance(box, list | tuple) or len(box) != 4 or not all(isinstance(x, int | float) for x in box):
            raise wrong(f"query {query!r} has no box (bbx) of four numbers")
        left, top, right, bottom = map(float, box)
        if not (left < right and top < bottom):
            raise wrong(f"the box of query {query!r} is empty")
        boxes.append((left, top, right, bottom))
        for kind in ("easy", "hard", "junk"):
            rows = entry.get(kind)
            if not isinstance(rows, list | tuple) or not all(
                type(i) is int and 0 <= i < len(truth["imlist"]) for i in rows
            ):
                raise wrong(f"{kind} of query {query!r} is no list of places in imlist")
    return {**truth, "bbx": boxes}
