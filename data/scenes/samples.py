"""Draw the page of samples of the data card: scenes, regions, pairs and composed queries, each with its caption.

python data/scenes/samples.py   # writes samples.webp beside this script
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

import xgap_analysis as xg

HERE = Path(__file__).parent
SHARE_ALIKE = "openmoji"  # its scenes are left out, so that nothing on the page is share-alike
COLUMNS, STEP, ROW = 8, 146, 186
PAIRS = ("twins", "swaps", "objects", "attributes")
Shown = Sequence[tuple[Image.Image, str]]


def free(data: xg.Dataset, ids: Sequence[str]) -> list[str]:
    """The ids of images that may be on the page."""
    return [i for i in ids if data.labels["artist"][i] != SHARE_ALIKE]


def words_of(data: xg.Dataset) -> dict[str, str]:
    return dict(zip(data.texts.ids, data.texts.captions, strict=True))


def scenes(split: str) -> Shown:
    data = xg.load_dataset("emoji-scenes").split(split)
    words = words_of(data)
    return [(data.images.opener(i), words[f"{i}/list"]) for i in free(data, data.images.ids)[:COLUMNS]]


def regions() -> Shown:
    data = xg.load_dataset("emoji-scenes").split("test")
    own, said = data.images.parts_of("regions").items, data.texts.parts_of("captions").items
    words = dict(zip(own.ids, said, strict=True))
    return [(own.opener(i), words[i]) for i in free(data, own.ids)[: 2 * COLUMNS]]


def pairs(kind: str) -> Shown:
    data = xg.load_dataset(f"emoji-scenes:{kind}").split("test")
    words = words_of(data)
    return [
        (data.images.opener(i), words[i.replace("/image-", "/text-")]) for i in free(data, data.images.ids)[:COLUMNS]
    ]


def composed() -> Shown:
    data = xg.load_dataset("emoji-scenes:composed").split("test")
    words = words_of(data)
    for text in data.texts.ids:
        reference = data.labels["reference"][text]
        shown = [reference, *(f"{reference}/target-{k}" for k in range(4))]
        if len(free(data, shown)) == len(shown):
            return [(data.images.opener(i), words[text] if i == reference else i) for i in shown]
    return []


def main() -> None:
    rows = [(scenes("seen"), STEP), (scenes("test"), STEP), (regions(), STEP // 2)]
    rows += [*((pairs(kind), STEP) for kind in PAIRS), (composed(), STEP)]
    sheet = Image.new("RGB", (COLUMNS * STEP, len(rows) * ROW), "#666")
    draw = ImageDraw.Draw(sheet)
    for row, (shown, step) in enumerate(rows):
        for k, (image, words) in enumerate(shown):
            sheet.paste(image, (6 + k * step, 4 + row * ROW))
            for n, part in enumerate(textwrap.wrap(words, step // 6)[:4]):
                draw.text((6 + k * step, image.height + 6 + 11 * n + row * ROW), part, fill="white")
    sheet.save(HERE / "samples.webp", quality=70, method=6)


if __name__ == "__main__":
    main()
