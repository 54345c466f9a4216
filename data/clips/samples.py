"""Draw the page of samples of the data card: some clips of each split, frame by frame, under their captions.

python data/clips/samples.py   # writes samples.webp beside this script
"""

from pathlib import Path

from PIL import Image, ImageDraw

import xgap_analysis as xg

HERE = Path(__file__).parent
SHARE_ALIKE = "openmoji"  # its clips are left out, so that nothing on the page is share-alike
FRAMES, STEP, LINE = 12, 66, 16


def page(data: xg.Dataset) -> Image.Image:
    """Three clips of each split, of one to three events where there are such."""
    rows = []
    for split in data.splits:
        own = data.split(split)
        for n in ("1", "2", "3"):
            video = own.items["video"].ids
            fit = (i for i in video if own.labels["n_events"][i] == n and own.labels["artist"][i] != SHARE_ALIKE)
            rows.append((own, next(fit)))
    sheet = Image.new("RGB", (FRAMES * STEP, len(rows) * (STEP + LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (own, item) in enumerate(rows):
        top = row * (STEP + LINE)
        (caption,) = own.items["chain"].select([f"{item}/chain"])
        draw.text((2, top + 2), f"{item} ({own.labels['artist'][item]}): {caption}", fill="black")
        for time, frame in enumerate(own.items["video"].select([item])[0]):
            sheet.paste(frame, (time * STEP, top + LINE))
    return sheet


def main() -> None:
    page(xg.load_dataset("emoji-clips")).save(HERE / "samples.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
