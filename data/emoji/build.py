"""Build the embedded dataset `emoji` from named package versions of the npm registry.

    pip install resvg-py==0.5.0 pillow   # and npm
    python data/emoji/build.py

The same versions give the same files: `SHA256SUMS` beside this script records them. Sources and licences are in the
data card (README.md). Nothing here is imported by the package, which only reads what this writes.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

HERE = Path(__file__).parent
ARTISTS = {  # icon set -> version; the emoji of one artist (or design team) each
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji": "1.2.7",
    "twemoji": "1.2.5",
    "fxemoji": "1.2.2",
    "emojione": "1.2.3",
    "openmoji": "1.2.29",
}
WORDS = {"emojibase-data": "17.0.0", "cldr-annotations-full": "48.2.0", "cldr-annotations-derived-full": "48.2.0"}
LANGUAGES = ("de", "es", "fr", "it", "nl", "pt", "pl", "sv", "ru", "ja", "ko", "zh")
DIALECTS = ("cldr", "emojibase", "github", "joypixels", "iamcal")
LEFT_OUT_GROUPS = {None, 2, 9}  # letters for flags, skin and hair components, flags (all alike)
SIZE, COLUMNS, QUALITY = 64, 40, 80
TEST_SHARE, VAL_SHARE = 0.20, 0.07


def package(name: str, version: str, cache: Path) -> dict[str, bytes]:
    """The files of an npm package, by path inside it."""
    archive = cache / f"{name.replace('@', '').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=cache, check=True, capture_output=True)
    with tarfile.open(archive) as tar:
        return {
            member.name.split("/", 1)[1]: handle.read()
            for member in tar
            if member.isfile() and (handle := tar.extractfile(member)) is not None
        }


def code(hexcode: str) -> str:
    """A code point sequence without variation selectors, as the id of a concept: `1f469-200d-1f680`."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def unescaped(words: str) -> str:
    r"""Words with escaped characters written out: one Swedish name has `\x{23}` for #."""
    return re.sub(r"\\x\{([0-9a-fA-F]+)\}", lambda found: chr(int(found[1], 16)), words)


def slug(name: str) -> str:
    """A name the way icon sets spell it: lower case, ASCII, hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").replace("&", "and")).strip("-")


def unit(concept: str) -> str:
    """Concepts that differ only by who is shown share a unit, and a unit is never split between train and test.

    Gendered forms of one activity or profession, family compositions, couples and clock faces are drawn nearly alike.
    """
    people = {"1f468", "1f469", "1f9d1"}
    parts = [p for p in concept.split("-") if p not in {"200d", "2640", "2642"}] or [concept]
    if sum(p in people or p in {"1f466", "1f467", "1f9d2"} for p in parts) > 1 or concept in {"1f46a"}:
        return "couple" if {"2764", "1f48b", "1f91d"} & set(parts) else "family"
    if parts[0] in people and len(parts) > 1:
        return "person+" + "+".join(parts[1:])
    first = int(parts[0], 16)
    if 0x1F550 <= first <= 0x1F567:
        return "clock face"
    if len(parts) > 1 and parts[-1] == "20e3":
        return "keycap"
    return "+".join(parts)


def words_in(text: str) -> set[str]:
    """The words of a caption, in lower case and without accents."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return set(re.findall(r"[a-z0-9]+", "".join(x for x in plain if not unicodedata.combining(x))))


def related(a: str, b: str) -> bool:
    """Whether two words may have a stem in common (run and runner, smile and smiling, ball and football).

    Generous on purpose: a text query must not find its answer by spelling, and a keyword too few costs little.
    """
    short, long = sorted((a, b), key=len)
    return short == long or (len(short) > 2 and (short in long or short[:3] == long[:3]))


def are_apart(caption: str, name: str) -> bool:
    """Whether no word of a caption is related to a word of the name."""
    return not any(related(a, b) for a in words_in(caption) for b in words_in(name))


def concepts(words: dict[str, bytes], cldr: dict[str, bytes], derived: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Every concept with its names, keywords, groups and split."""

    def read(path: str) -> Any:
        return json.loads(words[path])

    meta = read("meta/groups.json")
    unicode_names = {code(k): v for k, v in read("meta/unicode-names.json").items()}
    dialects = [{code(k): v for k, v in read(f"en/shortcodes/{d}.json").items()} for d in DIALECTS]
    labels = {
        lang: {code(e["hexcode"]): unescaped(e["label"]) for e in read(f"{lang}/data.json")} for lang in LANGUAGES
    }
    notes: dict[str, Any] = {}
    for files in (derived, cldr):
        for path in ("annotations/en/annotations.json", "annotationsDerived/en/annotations.json"):
            if path in files:
                tree = json.loads(files[path])
                body = tree.get("annotations", tree.get("annotationsDerived"))["annotations"]
                notes |= {"-".join(f"{ord(c):x}" for c in k if c != "\ufe0f"): v for k, v in body.items()}
    found: dict[str, dict[str, Any]] = {}
    for entry in read("en/data.json"):
        if entry.get("group") in LEFT_OUT_GROUPS:
            continue
        concept, name = code(entry["hexcode"]), entry["label"]
        others = [unicode_names.get(concept, "").lower()]
        for dialect in dialects:
            given = dialect.get(concept, [])
            others += [s.replace("_", " ").replace("-", " ") for s in ([given] if isinstance(given, str) else given)]
        seen, other_names = {" ".join(re.findall(r"\w+", name.lower()))}, []
        for other in others:
            words_of = " ".join(re.findall(r"\w+", other))
            if words_of and words_of not in seen and len(words_of) > 2:
                seen.add(words_of)
                other_names.append(words_of)
        keywords = dict.fromkeys(entry.get("tags", ()))
        keywords |= dict.fromkeys(k for k in notes.get(concept, {}).get("default", ()) if k != name)
        apart = [k for k in keywords if are_apart(k, name)]
        other_names_apart = [n for n in other_names if are_apart(n, name)]
        found[concept] = {
            "emoji": entry["emoji"],
            "name": name,
            "other_names": other_names,
            "other_names_apart": other_names_apart,
            "keywords": list(keywords),
            "keywords_apart": apart,
            "names": {lang: labels[lang][concept] for lang in LANGUAGES if labels[lang].get(concept)},
            "group": meta["groups"][str(entry["group"])],
            "subgroup": meta["subgroups"][str(entry["subgroup"])],
            "unit": unit(concept),
        }
    by_subgroup: dict[str, set[str]] = defaultdict(set)
    for facts in found.values():
        by_subgroup[facts["subgroup"]].add(facts["unit"])
    split: dict[str, str] = {}
    for subgroup in sorted(by_subgroup):
        units = sorted(
            (u for u in by_subgroup[subgroup] if u not in split),
            key=lambda u: hashlib.sha256(f"emoji split {u}".encode()).digest(),
        )
        n_test, n_val = round(len(units) * TEST_SHARE), round(len(units) * VAL_SHARE)
        for rank, name in enumerate(units):
            split[name] = "test" if rank < n_test else "val" if rank < n_test + n_val else "train"
    for facts in found.values():
        facts["split"] = split[facts["unit"]]
    return found


def names_to_concepts(
    artists: dict[str, dict[str, bytes]], words: dict[str, bytes], found: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """The spelling of a concept in any icon set -> the concept; the first source that knows a spelling wins."""
    spelling: dict[str, str] = {}
    for files in artists.values():
        for hexcode, name in json.loads(files.get("chars.json", b"{}")).items():
            if code(hexcode) in found:
                spelling.setdefault(name, code(hexcode))
    for concept, facts in found.items():
        spelling.setdefault(slug(facts["name"]), concept)
    squashed: dict[str, str] = {}
    unicode_names = {code(k): v for k, v in json.loads(words["meta/unicode-names.json"]).items()}
    for concept in found:
        if concept in unicode_names:
            squashed.setdefault(slug(unicode_names[concept]).replace("-", ""), concept)
    for concept, facts in found.items():
        for name in facts["other_names"]:
            spelling.setdefault(slug(name), concept)
            squashed.setdefault(slug(name).replace("-", ""), concept)
        squashed.setdefault(slug(facts["name"]).replace("-", ""), concept)
    return squashed | spelling


def drawing(body: str, width: float, height: float) -> np.ndarray:
    """One drawing as premultiplied RGBA, `[64, 64, 4]`, rendered at twice the size and box-filtered."""
    side = max(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{x} {y} {side} {side}" width="{2 * SIZE}" height="{2 * SIZE}">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIZE, height=2 * SIZE))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), dtype=np.float64)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.reshape(SIZE, 2, SIZE, 2, 4).mean(axis=(1, 3))


def sprite(pictures: list[np.ndarray]) -> Image.Image:
    """All pictures of an artist on one sheet, row by row, with straight alpha."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = np.zeros((rows * SIZE, COLUMNS * SIZE, 4))
    for i, picture in enumerate(pictures):
        top, left = (i // COLUMNS) * SIZE, (i % COLUMNS) * SIZE
        sheet[top : top + SIZE, left : left + SIZE] = picture
    alpha = sheet[..., 3:]
    sheet[..., :3] = np.divide(sheet[..., :3] * 255, alpha, out=np.zeros_like(sheet[..., :3]), where=alpha > 0)
    return Image.fromarray(np.clip(np.rint(sheet), 0, 255).astype(np.uint8), "RGBA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where package archives are kept")
    cache = parser.parse_args().cache
    cache.mkdir(parents=True, exist_ok=True)
    artists = {name: package(f"@iconify-json/{name}", version, cache) for name, version in ARTISTS.items()}
    words, cldr, derived = (package(name, version, cache) for name, version in WORDS.items())
    found = concepts(words, cldr, derived)
    spelling = names_to_concepts(artists, words, found)

    drawn: dict[str, list[str]] = {}
    for artist, files in artists.items():
        icons = json.loads(files["icons.json"])
        chosen: dict[str, str] = {}
        for name, icon in icons["icons"].items():
            if not icon.get("hidden") and name in spelling:
                chosen.setdefault(spelling[name], name)
        for alias, target in icons.get("aliases", {}).items():
            if alias in spelling and target["parent"] in icons["icons"] and set(target) <= {"parent"}:
                chosen.setdefault(spelling[alias], target["parent"])
        once: dict[str, str] = {}  # an icon may be listed under two concepts; the first keeps it
        for concept in found:
            if concept in chosen and chosen[concept] not in once:
                once[chosen[concept]] = concept
        order = [c for c in found if chosen.get(c) in once and once[chosen[c]] == c]
        default = (icons.get("width", 16), icons.get("height", 16))
        pictures, kept = [], []
        for concept in order:
            icon = icons["icons"][chosen[concept]]
            picture = drawing(icon["body"], icon.get("width", default[0]), icon.get("height", default[1]))
            if picture[..., 3].max() > 0:
                pictures.append(picture)
                kept.append(concept)
        drawn[artist] = kept
        target = HERE / "sprites" / f"{artist}.webp"
        target.parent.mkdir(exist_ok=True)
        sprite(pictures).save(target, quality=QUALITY, method=6)
        print(f"{artist}: {len(kept)} pictures, {target.stat().st_size / 2**20:.2f} MiB")

    n_artists = {c: sum(c in kept for kept in drawn.values()) for c in found}
    found = {c: facts for c, facts in found.items() if n_artists[c]}
    (HERE / "concepts.json").write_text(json.dumps(found, ensure_ascii=False, indent=0, separators=(",", ":")) + "\n")
    (HERE / "pictures.json").write_text(json.dumps(drawn, indent=0, separators=(",", ":")) + "\n")
    files = sorted([*HERE.glob("*.json"), *HERE.glob("sprites/*.webp")])
    sums = "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(HERE).as_posix()}\n" for f in files)
    (HERE / "SHA256SUMS").write_text(sums)
    for split in ("train", "val", "test"):
        print(split, sum(f["split"] == split for f in found.values()), "concepts")


if __name__ == "__main__":
    main()
