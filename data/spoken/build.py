"""Build the embedded dataset `emoji-spoken`: the names of `emoji`, spoken by six voices, as log-mel sheets.

    apt-get install espeak-ng flite            # espeak-ng 1.51, flite 2.2: for building only
    pip install numpy==2.4.6 scipy==1.17.1 pillow==13.0.0
    python data/spoken/build.py --cache /path/for/sound/files

The same versions give the same files, which `SHA256SUMS` beside this script records; other versions of the engines
speak differently, so the sheets are the data. Engines, voices, commands and licences are in the data card (README.md).
Nothing here is imported by the package, which only reads what this writes.
"""

import argparse
import hashlib
import io
import json
import subprocess
import unicodedata
import wave
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from PIL import Image, features
from scipy.signal import resample_poly

HERE = Path(__file__).parent
ENGINES = {"espeak-ng": "1.51", "flite": "2.2"}
VOICES = {  # voice -> engine, the engine's name of it
    "gb-m3": ("espeak-ng", "en-gb+m3"),
    "us-f2": ("espeak-ng", "en-us+f2"),
    "scot-m7": ("espeak-ng", "en-gb-scotland+m7"),
    "slt": ("flite", "slt"),
    "carib-f4": ("espeak-ng", "en-029+f4"),
    "rms": ("flite", "rms"),
}
HELD_OUT_VOICES = ("carib-f4", "rms")
WORD_VOICES = {"de": "de+m3", "fr": "fr-fr+m3", "es": "es+m3", "ru": "ru+m3"}  # espeak-ng, by language
WORDS = {"train": 40, "test": 20}  # concepts whose names are spoken in these languages too
SPEED = 165  # words a minute, of espeak-ng

RATE, WINDOW, HOP, SPECTRUM = 16_000, 400, 320, 512  # samples: 25 ms every 20 ms
BANDS, LOWEST, HIGHEST = 40, 60.0, 7_600.0  # the upper limit hides that the engines differ in their sampling rate
FLOOR, CEILING = -8.0, 8.0  # natural logarithms of power that bytes 0 and 255 stand for
LOUDNESS, SILENCE = 0.1, 0.01  # root mean square of a spoken name; share of its largest amplitude that is trimmed
MOST_FRAMES = 128
SHEET_WIDTH, QUALITY = 4_096, 60


def command(engine: str, voice: str, text: str, target: Path) -> list[str]:
    """The command line that speaks a text into a sound file."""
    if engine == "flite":
        return ["flite", "-voice", voice, "-t", text, "-o", str(target)]
    return ["espeak-ng", "-v", voice, "-s", str(SPEED), "-w", str(target), "--", text]


def said(engine: str, name: str) -> str:
    """A name as it is given to an engine: flite reads ASCII alone."""
    if engine != "flite":
        return name
    plain = unicodedata.normalize("NFKD", name.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"'))
    return plain.encode("ascii", "ignore").decode()


def check_engines() -> None:
    """Refuse other versions: they would speak differently."""
    for engine, version in ENGINES.items():
        shown = subprocess.run([engine, "--version"], capture_output=True, text=True).stdout
        if version not in shown:
            raise SystemExit(f"{engine} {version} is needed, and here is: {' '.join(shown.split())[:120] or 'none'}")


def speak(engine: str, voice: str, names: Mapping[str, str], folder: Path) -> list[np.ndarray]:
    """The samples of each name, at 16 kHz; sound files that are there already are read."""
    folder.mkdir(parents=True, exist_ok=True)

    def one(item: tuple[str, str]) -> np.ndarray:
        target = folder / f"{item[0]}.wav"
        if not target.exists():
            part = target.with_suffix(".part")
            subprocess.run(command(engine, voice, said(engine, item[1]), part), check=True, capture_output=True)
            part.rename(target)
        return samples(target)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, names.items()))


def samples(path: Path) -> np.ndarray:
    """A sound file as float64 samples at 16 kHz, silence before and after it cut off, at one loudness."""
    with wave.open(io.BytesIO(path.read_bytes())) as file:
        rate, raw = file.getframerate(), file.readframes(file.getnframes())
    sound = np.frombuffer(raw, dtype="<i2").astype(np.float64) / 2**15
    if rate != RATE:
        shared = np.gcd(rate, RATE)
        sound = resample_poly(sound, RATE // shared, rate // shared)
    loud = np.flatnonzero(np.abs(sound) > SILENCE * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1]
    return sound * LOUDNESS / np.sqrt(np.mean(sound**2))


def filters() -> np.ndarray:
    """Triangles of equal width on the mel scale, `[BANDS, SPECTRUM / 2 + 1]`."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequency = np.arange(SPECTRUM // 2 + 1) * RATE / SPECTRUM
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


def log_mel(sound: np.ndarray) -> np.ndarray:
    """Natural logarithm of the power in each band, `[frames, BANDS]`, not below FLOOR."""
    n_frames = max(1, 1 + -(-(len(sound) - WINDOW) // HOP))
    padded = np.pad(sound, (0, max(0, (n_frames - 1) * HOP + WINDOW - len(sound))))
    starts = np.arange(n_frames)[:, None] * HOP + np.arange(WINDOW)
    spectrum = np.abs(np.fft.rfft(padded[starts] * np.hanning(WINDOW + 1)[:-1], SPECTRUM)) ** 2
    return np.log(np.maximum(spectrum @ filters().T, np.exp(FLOOR)))


def places(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Row and first column of each item: side by side, a new row where the next one does not fit."""
    row, column, found = 0, 0, []
    for length in lengths:
        if column + length > SHEET_WIDTH:
            row, column = row + 1, 0
        found.append((row, column))
        column += length
    return found


def sheet(mels: Sequence[np.ndarray]) -> Image.Image:
    """All names of a voice on one grey sheet: time to the right, frequency upwards, one row of names under another."""
    where = places([len(mel) for mel in mels])
    pixels = np.zeros(((where[-1][0] + 1) * BANDS, SHEET_WIDTH), np.uint8)
    for (row, column), mel in zip(where, mels, strict=True):
        scaled = np.rint((mel - FLOOR) / (CEILING - FLOOR) * 255)
        pixels[row * BANDS : (row + 1) * BANDS, column : column + len(mel)] = np.clip(scaled, 0, 255).T[::-1]
    return Image.fromarray(pixels, "L")


def build_sheet(key: str, engine: str, voice: str, names: Mapping[str, str], cache: Path) -> dict[str, Any]:
    """Write the sheet of a voice; gives the number of frames of each item, and the items that were cut."""
    mels = [log_mel(sound) for sound in speak(engine, voice, names, cache / key)]
    cut = [item for item, mel in zip(names, mels, strict=True) if len(mel) > MOST_FRAMES]
    mels = [mel[:MOST_FRAMES] for mel in mels]
    target = HERE / "sheets" / f"{key}.webp"
    target.parent.mkdir(exist_ok=True)
    sheet(mels).save(target, quality=QUALITY, method=6)
    top, lengths = max(float(mel.max()) for mel in mels), [len(mel) for mel in mels]
    print(
        f"{key}: {len(mels)} names, {np.mean(lengths):.1f} frames on average, {len(cut)} cut, largest {top:.2f}, "
        f"{target.stat().st_size / 1000:.0f} kB",
        flush=True,
    )
    return {"engine": engine, "voice": voice, "frames": lengths, "cut": cut}


def chosen_words(concepts: Mapping[str, Any]) -> list[str]:
    """Concepts of one word in English and at most two in the other languages, all five of them spelt differently."""

    def fits(facts: Mapping[str, Any]) -> bool:
        others = [facts["names"].get(language, "") for language in WORD_VOICES]
        spelt = {name.casefold() for name in (facts["name"], *others)}
        short = len(facts["name"].split()) == 1 and all(0 < len(name.split()) <= 2 for name in others)
        return short and len(spelt) == 1 + len(WORD_VOICES)

    chosen = []
    for split, count in WORDS.items():
        those = [c for c, facts in concepts.items() if facts["split"] == split and fits(facts)]
        chosen += sorted(those, key=lambda c: hashlib.sha256(f"emoji-spoken word {c}".encode()).digest())[:count]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where sound files are kept")
    cache = parser.parse_args().cache
    check_engines()
    concepts = json.loads((HERE.parent / "emoji" / "concepts.json").read_text("utf-8"))
    names = {concept: facts["name"] for concept, facts in concepts.items()}
    voices = {}
    for key, (engine, voice) in VOICES.items():
        split = "held out" if key in HELD_OUT_VOICES else "train"
        voices[key] = {"split": split, **build_sheet(key, engine, voice, names, cache)}
    words, languages = chosen_words(concepts), {}
    for language, voice in WORD_VOICES.items():
        spoken = {concept: concepts[concept]["names"][language] for concept in words}
        made = build_sheet(f"words-{language}", "espeak-ng", voice, spoken, cache)
        languages[language] = {**made, "names": list(spoken.values())}
    index = {
        "bands": BANDS,
        "floor": FLOOR,
        "ceiling": CEILING,
        "width": SHEET_WIDTH,
        "concepts": list(names),
        "voices": voices,
        "words": words,
        "languages": languages,
    }
    (HERE / "index.json").write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
    files = sorted([HERE / "index.json", *HERE.glob("sheets/*.webp")])
    sums = "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(HERE).as_posix()}\n" for f in files)
    (HERE / "SHA256SUMS").write_text(sums)
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, libwebp {features.version('webp')}")


if __name__ == "__main__":
    main()
