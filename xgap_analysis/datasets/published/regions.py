"""Images as the region features of a detector, with their captions: the files of SCAN and of what was built on it.

| file | holds |
|---|---|
| `{split}_ims.npy` | `[n, regions, d]`, a row per image; or a row per caption, each image as often as it has captions |
| `{split}_caps.txt` | one caption a line; those of an image one behind another, images in the order of the rows |
| `{split}_boxes.npy` | `[n, regions, 4]`, where there is one: the box of each region |
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.datasets.items import Texts
from xgap_analysis.datasets.published.files import read_text


@dataclass(frozen=True, eq=False)
class Regions:
    """One split of images as regions, and their captions.

    Args:
        images: one token per region, images `image-0`, `image-1`, ...
        texts: captions `image-0#0`, `image-0#1`, ...
        boxes: `[N, 4]` of the N regions, in the order of `images.vectors`; None where there is no such file.
    """

    images: TokenFeatures
    texts: Texts
    boxes: np.ndarray | None = None

    @property
    def relevance(self) -> Relevance:
        """A caption and its image: images as queries and captions as the gallery, or the other way."""
        labels = {item: item.partition("#")[0] for item in (*self.images.ids, *self.texts.ids)}
        return Relevance.from_labels(labels, labels)


def load_regions(folder: Path | str, split: str = "test", *, captions: int = 5) -> Regions:
    """A split of region features and captions from a folder in this layout; see the module.

    Args:
        folder: the folder.
        split: `"train"`, `"dev"`, `"test"`, or what the files begin with (`"testall"` of COCO).
        captions: of an image.

    Returns:
        Regions as unit vectors of the detector's width, with the lengths that they had in `images.norms`. All-zero
        rows, which fill up images with fewer regions, are left out.

    Raises:
        XgapError: a missing or damaged file, arrays of another shape, captions that are not `captions` an image, or
            rows that differ where one image is repeated for each of its captions.

    Source: Lee et al., Stacked cross attention (SCAN), ECCV 2018, whose files later systems took over.
    """
    base = Path(folder).expanduser()
    path = base / f"{split}_ims.npy"
    rows = _array(path)
    lines = [line.strip() for line in read_text(base / f"{split}_caps.txt").splitlines() if line.strip()]
    if rows.ndim != 3 or not rows.size:
        raise XgapError(f"{path} must be [images, regions, d], not of shape {rows.shape}")
    boxes = _array(base / f"{split}_boxes.npy") if (base / f"{split}_boxes.npy").exists() else None
    if boxes is not None and boxes.shape != (*rows.shape[:2], 4):
        raise XgapError(f"{base / f'{split}_boxes.npy'} must be {[*rows.shape[:2], 4]}, not {list(boxes.shape)}")
    n = len(lines) // captions if captions > 0 else 0
    if captions < 1 or len(lines) != n * captions or len(rows) not in (n, len(lines)):
        what = f"{path} has {len(rows)} rows and {split}_caps.txt {len(lines)} captions"
        raise XgapError(f"{what}; there are {captions} captions an image, and one row for each image or each caption")
    if len(rows) != n:
        first = next(
            (i for i in range(n) if (rows[i * captions : (i + 1) * captions] != rows[i * captions]).any()), None
        )
        if first is not None:
            raise XgapError(f"{path} repeats each image {captions} times, but those rows of image {first} differ")
        rows = rows[::captions]
        boxes = None if boxes is None else boxes[::captions]
    there = [np.asarray(one).any(axis=1) for one in rows]
    empty = next((i for i, own in enumerate(there) if not own.any()), None)
    if empty is not None:
        raise XgapError(f"image {empty} of {path} has no region that is not zero; leave it out")
    ids = [f"image-{i}" for i in range(n)]
    images = TokenFeatures.from_sets(
        [np.array(one[own]) for one, own in zip(rows, there, strict=True)], ids, "image", "image", {"file": path.name}
    )
    kept = None if boxes is None else np.concatenate([one[own] for one, own in zip(boxes, there, strict=True)])
    said = Texts([f"{ids[k // captions]}#{k % captions}" for k in range(len(lines))], lines)
    return Regions(images, said, kept)


def _array(path: Path) -> np.ndarray:
    """An array that is read as it is needed; no pickle."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise XgapError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError) as error:
        raise XgapError(f"{path} is damaged, or holds something else than one array of numbers") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise XgapError(f"{path} is damaged, or holds something else than one array of numbers")
    return found
