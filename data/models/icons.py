"""Drawings of open icon sets with the words of their names: most of the pre-training corpus of the embedded models.

One npm package holds every set, so that its version pins them all. It is fetched and drawn once, by
`python data/models/train.py prepare`, into a cache; nothing of it is shipped.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PACKAGE, VERSION = "@iconify/json", "2.2.535"
SIZE = 64
LICENCES = {"MIT", "ISC", "Apache-2.0", "BSD-3-Clause", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"}
CATEGORIES_LEFT_OUT = {"Logos", "Emoji", "Programming"}
SETS_LEFT_OUT = {
    # emoji, by the artists that the models are evaluated on or by those of the training split
    *("fluent-emoji", "fluent-emoji-high-contrast", "emojione-monotone"),
    # flags, brands, codes; and moving drawings, whose first frame is often empty
    *(
        "flag",
        "circle-flags",
        "flagpack",
        "cif",
        "bitcoin-icons",
        "ginetex",
        "geo",
        "subway",
        "svg-spinners",
        "line-md",
    ),
    # other weights, or earlier versions, of a set that is used
    *("ic", "material-symbols-light", "fa6-solid", "fa-solid", "fa6-regular", "fa-regular", "bx", "bxs", "feather"),
    *("heroicons-solid", "heroicons-outline", "mono-icons", "icon-park-solid", "icon-park-twotone", "pepicons-print"),
    *("pepicons", "uis", "uit", "uim", "fontelico", "oui", "famicons", "devicon-original", "devicon-line"),
    *("fa-brands", "fa6-brands", "fa7-brands"),
}
OF_A_NAME = 2  # drawings of one name from one set: one with eight weights of a drawing does not outweigh the others
VARIANTS = {
    *("fill", "filled", "filled48", "duotone", "duo", "twotone", "tone", "color", "colour", "mono", "monochrome"),
    *("one", "two", "three", "four", "alt", "variant", "solid", "thin", "light", "regular", "bold", "outline"),
    *("outlined", "linear", "line", "lines", "broken", "rounded", "round", "sharp"),
}
SIGNS = re.compile(  # letters, text formats and measures: nothing that is a thing
    r"\b(logos?|brands?|alpha|numeric|format|letter|align|alignment|signal cellular|wifi|border|font|superscript"
    r"|subscript|kerning|paragraph|valign|justify)\b"
)
BRANDED = re.compile(r"brand|logo|social|flag|country|currenc")


@dataclass
class Icon:
    """One drawing: SVG body and the square that it is seen in (left, top, edge), captions (the name first), topics."""

    set: str
    body: str
    square: tuple[float, float, float]
    captions: list[str]
    topics: list[str] = field(default_factory=list)
    coloured: bool = False


@dataclass
class Drawings:
    """What was drawn: `alpha [n, 64, 64]` of drawings without colours of their own, `rgba [m, 64, 64, 4]` (alpha not
    multiplied in) of the others, both uint8, and set, captions and topics of each, in that order.
    """

    alpha: np.ndarray
    rgba: np.ndarray
    about: list[tuple[str, list[str], list[str]]]


def words_of(name: str) -> str:
    """The words of an icon's name, without numbers and names of drawing styles."""
    apart = re.sub(r"([a-z])(\d)", r"\1 \2", name.lower())
    return " ".join(w for w in re.split(r"[-_ ]+", apart) if w and w not in VARIANTS and not w.isdigit())


def topic_of(category: str) -> str:
    """The words of a category: `FoodDrink` and `Food & Drink` are both `food drink`."""
    return " ".join(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", category).lower()))


def is_used(sheet: dict[str, Any]) -> bool:
    """Whether a set is: a permissive licence, and neither emoji, flags nor brands."""
    info = sheet["info"]
    permissive = info["license"].get("spdx") in LICENCES
    return permissive and info.get("category") not in CATEGORIES_LEFT_OUT and sheet["prefix"] not in SETS_LEFT_OUT


def without_affix(name: str, sheet: dict[str, Any]) -> str:
    """A name without the set's longest suffix and prefix of style that it has."""
    suffixes = sorted((f"-{s}" for s in sheet.get("suffixes", {}) if s), key=len, reverse=True)
    prefixes = sorted((f"{p}-" for p in sheet.get("prefixes", {}) if p), key=len, reverse=True)
    name = name.removesuffix(next((s for s in suffixes if name.endswith(s)), ""))
    return name.removeprefix(next((p for p in prefixes if name.startswith(p)), ""))


def icons_of(sheet: dict[str, Any]) -> Iterator[Icon]:
    """The drawings of a set that are used: of each name those whose digest of set and name comes first."""
    topics, aliases, by_caption = defaultdict(list), defaultdict(list), defaultdict(list)
    for category, members in sheet.get("categories", {}).items():
        for name in members:
            topics[name].append(topic_of(category))
    for alias, target in sheet.get("aliases", {}).items():
        if set(target) == {"parent"}:  # neither turned nor mirrored
            aliases[target["parent"]].append(words_of(without_affix(alias, sheet)))
    for name, icon in sheet["icons"].items():
        caption = words_of(without_affix(name, sheet))
        if len(caption) > 2 and not icon.get("hidden") and not SIGNS.search(caption):
            by_caption[caption] += [] if any(BRANDED.search(topic) for topic in topics[name]) else [name]
    for caption, names in by_caption.items():
        for name in sorted(names, key=lambda n: hashlib.sha256(f"{sheet['prefix']} {n}".encode()).digest())[:OF_A_NAME]:
            icon = {key: sheet["icons"][name].get(key, sheet.get(key)) for key in ("width", "height", "left", "top")}
            width, height = icon["width"] or 16, icon["height"] or 16
            edge = max(width, height)
            corner = (icon["left"] or 0) + (width - edge) / 2, (icon["top"] or 0) + (height - edge) / 2
            captions = list(dict.fromkeys([caption, *(other for other in aliases[name] if len(other) > 2)]))
            coloured = bool(sheet["info"].get("palette"))
            yield Icon(sheet["prefix"], sheet["icons"][name]["body"], (*corner, edge), captions, topics[name], coloured)


def drawn(icon: Icon) -> np.ndarray | None:
    """RGBA `[64, 64, 4]`; alpha in 16 steps `[64, 64]` where it has no colours. None: not drawable, empty, or full."""
    import resvg_py

    left, top, edge = icon.square
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{SIZE}" '
        f'height="{SIZE}" viewBox="{left} {top} {edge} {edge}">{icon.body}</svg>'
    )
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    except ValueError:  # a few bodies use what the renderer does not know
        return None
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    if pixels.shape != (SIZE, SIZE, 4) or not 0.01 < (pixels[..., 3] > 127).mean() < 0.97:
        return None
    return pixels if icon.coloured else (pixels[..., 3].astype(np.uint16) + 8) // 17 * 17


def is_new(icon: Icon, pixels: np.ndarray, seen: set[Any]) -> bool:
    """Whether no equal drawing was seen, and none of its name that is equal on a coarse grid."""
    coarse = pixels.reshape(16, 4, 16, 4, -1).mean((1, 3)) // 64
    marks = {hashlib.sha256(pixels.tobytes()).digest(), (icon.captions[0], coarse.astype(np.uint8).tobytes())}
    known = bool(marks & seen)
    if not known:
        seen |= marks
    return not known


def fetched(package: str, version: str, cache: Path) -> Path:
    """The archive of an npm package, fetched where it is not in the cache.

    Raises:
        SystemExit: it cannot be fetched.
    """
    archive = cache / f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        try:
            command = ["npm", "pack", "--silent", f"{package}@{version}"]
            subprocess.run(command, cwd=cache, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"the npm package {package}@{version} cannot be fetched ({type(error).__name__}): the corpus is made "
                f"with npm and a network, or from {archive.name} put into {cache}; --quick trains without it"
            ) from None
    return archive


def sheets(archive: Path) -> Iterator[dict[str, Any]]:
    """The sets of the package, by name."""
    with tarfile.open(archive) as tar:
        members = [m for m in tar if re.fullmatch(r"package/json/[^/]+\.json", m.name)]
        for member in sorted(members, key=lambda m: m.name):
            file = tar.extractfile(member)
            if file is not None:
                yield json.load(file)


def draw_all(archive: Path, processes: int = 2) -> Drawings:
    """Every drawing that is used, once."""
    icons = [icon for sheet in sheets(archive) if is_used(sheet) for icon in icons_of(sheet)]
    seen: set[Any] = set()
    kept: dict[bool, list[tuple[Icon, np.ndarray]]] = {False: [], True: []}
    with ProcessPoolExecutor(processes) as pool:
        for i, (icon, pixels) in enumerate(zip(icons, pool.map(drawn, icons, chunksize=200), strict=True)):
            if pixels is not None and is_new(icon, pixels, seen):
                kept[icon.coloured].append((icon, pixels.astype(np.uint8)))
            if i % 20_000 == 0:
                print(f"{i} of {len(icons)} icons drawn", flush=True)
    alpha, rgba = (
        np.stack([np.zeros(shape, np.uint8)[0], *(p for _, p in kept[colour])])[1:]
        for colour, shape in ((False, (1, SIZE, SIZE)), (True, (1, SIZE, SIZE, 4)))
    )
    about = [(icon.set, icon.captions, icon.topics) for colour in (False, True) for icon, _ in kept[colour]]
    return Drawings(alpha, rgba, about)


def prepare(cache: Path, processes: int = 2) -> None:
    """Draw the icons into the cache, where that has not been done."""
    if (cache / "icons.json").exists():
        return
    made = draw_all(fetched(PACKAGE, VERSION, cache), processes)
    np.savez_compressed(cache / "icons.npz", alpha=made.alpha, rgba=made.rgba)
    (cache / "icons.json").write_text(json.dumps(made.about))


def load(cache: Path) -> Drawings:
    """What `prepare` drew.

    Raises:
        SystemExit: nothing was drawn.
    """
    if not (cache / "icons.json").exists():
        raise SystemExit(f"no icons in {cache}: run `python data/models/train.py prepare` first, or add --quick")
    with np.load(cache / "icons.npz") as saved:
        return Drawings(
            saved["alpha"], saved["rgba"], [tuple(a) for a in json.loads((cache / "icons.json").read_text())]
        )


NONE = Drawings(np.zeros((0, SIZE, SIZE), np.uint8), np.zeros((0, SIZE, SIZE, 4), np.uint8), [])
