"""Draw a page of samples of `emoji-spoken`, to be looked at: python data/spoken/samples.py writes samples.webp.

A row for each voice, a column for each name, and a last row with one word in the other languages.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import xgap_analysis as xg
from xgap_analysis.datasets.embedded.spoken import recordings

NAMES = ("1f43b", "1fa81", "1f600", "1f680", "1f355", "26f2")
SCALE, WIDTH, LEFT, TOP = 3, 64, 90, 20  # pixels a frame and a band; frames that are shown; margins


def drawn(sheet: np.ndarray) -> Image.Image:
    """A sheet, time to the right, low frequencies at the bottom; dark is silent."""
    grey = np.rint((np.asarray(sheet)[:WIDTH] + 8) / 16 * 255).astype(np.uint8).T[::-1]
    return Image.fromarray(np.ascontiguousarray(grey)).resize((grey.shape[1] * SCALE, grey.shape[0] * SCALE))


def main() -> None:
    data, known = xg.load_dataset("emoji-spoken"), recordings()
    names, word = data.class_names["concept"], known.index["words"][0]
    rows = [(voice, [f"{voice}/{c}" for c in NAMES]) for voice in known.voices]
    rows.append((names[word], [f"{language}/{word}" for language in known.index["languages"]]))
    columns, tall = WIDTH * SCALE + 6, known.index["bands"] * SCALE + 18
    page = Image.new("L", (LEFT + len(NAMES) * columns, TOP + len(rows) * tall), 255)
    draw = ImageDraw.Draw(page)
    for k, concept in enumerate(NAMES):
        draw.text((LEFT + k * columns, 4), names[concept], fill=0)
    for r, (label, ids) in enumerate(rows):
        draw.text((4, TOP + r * tall + 40), label, fill=0)
        items = known.items(ids)
        for k, item in enumerate(ids):
            page.paste(drawn(items[k]), (LEFT + k * columns, TOP + r * tall))
            if r == len(rows) - 1:
                draw.text((LEFT + k * columns, TOP + r * tall + tall - 16), item.split("/")[0], fill=0)
    page.save(Path(__file__).with_name("samples.webp"), quality=70, method=6)


if __name__ == "__main__":
    main()
