"""The pre-training corpus of the embedded models: pictures of open icon sets with the words of their names.

Rendered from named package versions of the npm registry when a model is trained; not shipped (about 20,000 drawings).
"""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

SIZE = 64
SETS = {  # package -> (version, licence, pattern of the names to take)
    "streamline-emojis": ("1.2.4", "CC-BY-4.0", r".*"),
    "icon-park": ("1.2.4", "Apache-2.0", r".*"),
    "game-icons": ("1.2.4", "CC-BY-3.0", r"(?!abstract).*"),
    "ph": ("1.2.2", "MIT", r".*-(fill|duotone)$"),
    "mdi": ("1.2.3", "Apache-2.0", r"(?!.*(-outline|-variant|-off|^alpha|^format|^arrow|^numeric)).*"),
    "tabler": ("1.2.41", "MIT", r".*-filled$"),
    "fluent-color": ("1.2.21", "MIT", r".*-24$"),
    "flat-color-icons": ("1.2.3", "MIT", r".*"),
    "meteocons": ("1.2.4", "MIT", r"(?!.*-fill$).*"),
    "streamline-plump-color": ("1.2.2", "CC-BY-4.0", r"(?!.*-flat$).*"),
    "streamline-freehand-color": ("1.2.2", "CC-BY-4.0", r".*"),
    "streamline-kameleon-color": ("1.2.2", "CC-BY-4.0", r".*"),
    "streamline-stickies-color": ("1.2.2", "CC-BY-4.0", r"(?!.*-duo$).*"),
    "streamline-ultimate-color": ("1.2.2", "CC-BY-4.0", r".*"),
    "healthicons": ("1.2.13", "MIT", r"(?!.*(-outline|-negative)).*"),
    "fa6-solid": ("1.2.4", "CC-BY-4.0", r".*"),
    "temaki": ("1.2.6", "CC0-1.0", r".*"),
    "maki": ("1.2.5", "CC0-1.0", r"(?!.*-\d+$).*"),
}
VARIANTS = {
    "fill",
    "filled",
    "duotone",
    "duo",
    "color",
    "one",
    "two",
    "three",
    "four",
    "alt",
    "solid",
    "thin",
    "outline",
}


def words_of(name: str) -> str:
    """The words of an icon's name, without numbers and the names of drawing variants."""
    words = [w for w in re.split(r"[-_]+", name.lower()) if w and w not in VARIANTS and not w.isdigit()]
    return " ".join(words)


def render(cache: Path) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Pictures (premultiplied RGBA, uint8 `[n, 64, 64, 4]`), captions, and whether a picture has colours of its own."""
    ready = cache / "icons.npz"
    if ready.exists():
        with np.load(ready) as saved:
            return saved["pictures"], [str(c) for c in saved["captions"]], saved["coloured"]
    pictures, captions, coloured = [], [], []
    for name, (version, _, pattern) in SETS.items():
        archive = cache / f"iconify-json-{name}-{version}.tgz"
        if not archive.exists():
            command = ["npm", "pack", "--silent", f"@iconify-json/{name}@{version}"]
            subprocess.run(command, cwd=cache, check=True, capture_output=True)
        with tarfile.open(archive) as tar:
            icons, info = (json.load(tar.extractfile(f"package/{f}.json")) for f in ("icons", "info"))
        seen: set[bytes] = set()
        for icon_name, icon in icons["icons"].items():
            caption = words_of(icon_name)
            if icon.get("hidden") or not re.fullmatch(pattern, icon_name) or len(caption) < 3:
                continue
            width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
            side = max(width, height)
            svg = (
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{(width - side) / 2} {(height - side) / 2} {side} {side}" '
                f'width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
            )
            try:
                png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
            except ValueError:
                continue  # a few bodies use what the renderer does not know; the corpus does without them
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.uint16)
            pixels[..., :3] = pixels[..., :3] * pixels[..., 3:] // 255
            picture = pixels.astype(np.uint8)
            if picture.shape != (SIZE, SIZE, 4) or not picture[..., 3].any() or picture.tobytes() in seen:
                continue
            seen.add(picture.tobytes())
            pictures.append(picture)
            captions.append(caption)
            coloured.append(bool(info.get("palette")))
        print(f"{name}: {len(pictures)} pictures so far", flush=True)
    np.savez_compressed(ready, pictures=np.stack(pictures), captions=np.array(captions), coloured=np.array(coloured))
    return np.stack(pictures), captions, np.array(coloured)
