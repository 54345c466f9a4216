"""A model and a dataset that any process finds by name, and that write down which items are encoded.

Environment: COUNTED_LOG names the file. COUNTED_KILL names an item at which the process ends, as by a kill, the first
time that it is reached.
"""

import dataclasses
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import xgap_analysis as xg

N = 40


def drawing(item: str) -> Image.Image:
    """An image that says which one it is."""
    return Image.new("RGB", (4, 4), (200, 7, int(item)))


def encode(items: list[Any]) -> np.ndarray:
    """Noise that depends on the item alone, `[n, 6]`."""
    seen = [_number(item) for item in items]
    with Path(os.environ["COUNTED_LOG"]).open("a") as log:
        log.writelines(f"{number}\n" for number in seen if number is not None)
    for number in seen:
        name = str(number)
        flag = Path(f"{os.environ['COUNTED_LOG']}.killed")
        if name == os.environ.get("COUNTED_KILL") and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return np.stack([np.random.default_rng(_seed(item)).normal(size=6) + 1 for item in items])


def counted() -> Counter[str]:
    """How often each image was encoded."""
    return Counter(Path(os.environ["COUNTED_LOG"]).read_text().split())


def _number(item: Any) -> int | None:
    colour = item.getpixel((0, 0)) if isinstance(item, Image.Image) else (0, 0, 0)
    return colour[2] if colour[:2] == (200, 7) and item.size == (4, 4) else None


def _seed(item: Any) -> int:
    return sum(item.tobytes() if isinstance(item, Image.Image) else item.encode())


@xg.register_model("counted")
def counted_model() -> Any:
    """A model that counts."""
    return xg.as_model(encode, ["image", "text"], name="counted")


@xg.register_dataset("counted-images")
def counted_images() -> xg.Dataset:
    """Forty images of four labels."""
    ids = [str(i) for i in range(N)]
    labels = {item: f"label {int(item) % 4}" for item in ids}
    images = xg.Images(ids, drawing, "counted")
    data = xg.Dataset("counted-images", "test", images, labels={"label": labels})
    return dataclasses.replace(data, splits={"test": lambda: data})
