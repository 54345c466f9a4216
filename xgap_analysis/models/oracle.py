"""The oracle: towers that read what an item is known to show, so that every score, gap and rank has a closed form.

An item of an embedded dataset carries tags, (kind, name) pairs (see `core.tags`). Each tag has a code of its own, and
all codes are exactly orthogonal: rows of the Sylvester-Hadamard matrix of 2,048 rows, `(-1)^popcount(i & j) / sqrt(d)`.
The feature of an item is

    u( sum over kinds of  weight * mean of the codes of its tags of this kind  +  g * code of the modality ),

u the scaling to unit length, weight 1 for concepts, 0.3 for artists and voices, and 0 for every other kind. So g is a
dial of the modality gap, and whatever is claimed about the gap has an exact value to be held against. With a = (1.09 +
g^2)^-1/2 and b = (1 + g^2)^-1/2:

| quantity | value | at g = 0.7 |
|---|---|---|
| image and text of one concept | `a b` | 0.651746 |
| image and text of two concepts | 0 | 0 |
| two texts of two concepts | `g^2 b^2` | 0.328859 |
| gap of N concepts, drawn by one artist | `sqrt((a - b)^2 / N + 0.09 a^2 + g^2 (a^2 + b^2))` | 0.834235 for N = 1,206 |
| an item of several concepts with shares p, and the text of one | `p_e / sqrt((sum p^2 + 0.09 + g^2)(1 + g^2))` | |
| mean of unit features of one concept each, its length | `sqrt((sum p^2 + 0.09 + g^2) / (1.09 + g^2))` | |

In a gallery of N images and the N - 1 other texts, a text retrieves its own image first as long as g is below the root
of `x^3 + 1.09 x^2 - x - 1` (x = g^2), which is 0.98894, and last above it.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from xgap_analysis.core.calls import spelled
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.precision import computable
from xgap_analysis.core.tags import Tag, TaggedText, tagged, tags_of
from xgap_analysis.models.registered import register_model
from xgap_analysis.models.tower import Model

NAME = "oracle"
DIM = 2048
LENGTH = 128  # tags of one item, at most
NOTHING = -1  # where an item has fewer
MODALITIES = ("image", "text", "audio")
MOTIONS = ("falls", "grows", "moves left", "moves right", "rises", "shrinks", "turns")
VOICES = ("carib-f4", "gb-m3", "kal16", "rms", "scot-m7", "slt", "us-f2")
LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "zh")
COLOURS = ("black", "blue", "green", "purple", "red", "white", "yellow")
SIZES = ("large", "small")
ROOMS = {  # kind: the first of its rows, which go on to the next kind's; row 0, which is constant, stays free
    "modality": 1,
    "artist": 16,
    "voice": 48,
    "motion": 80,
    "language": 96,
    "colour": 128,
    "size": 144,
    "concept": 256,
}
DEFAULTS = {"g": 0.7, "artist": 0.3, "voice": 0.3, "concept": 1.0}


@register_model(NAME, about="embedded: reads what an item is known to show; scores, gap and ranks have a closed form")
def oracle(
    g: float = 0.7,
    artist: float = 0.3,
    voice: float = 0.3,
    *,
    concept: float = 1.0,
    motion: float = 0.0,
    language: float = 0.0,
    colour: float = 0.0,
    size: float = 0.0,
    device: str | torch.device = "cpu",
) -> Model:
    """A model of images, clips (lists of images), texts and sound that reads tags; see the head of this module.

    Args:
        g: weight of the modality's own code, by which the modality gap is set.
        artist, voice: weights of the code of who drew an image or spoke a text.
        concept, motion, language, colour, size: weights of the codes of these kinds.
        device: where it computes.

    It is also `load_model("oracle")` and `load_model("oracle(g=0.9)")`.

    Raises:
        XgapError: a weight that is not a number.

    Example:
        >>> import xgap_analysis as xg
        >>> data, model = xg.load_dataset("emoji").split("test"), oracle(g=0.7)
        >>> image = xg.encode(model, data.images.select(["noto/1f60f"]), store=None, progress=False)
        >>> text = xg.encode(model, data.texts.select(["1f60f/name"]), store=None, progress=False)
        >>> round(float(image.vectors[0] @ text.vectors[0]), 6)
        0.651746
    """
    given = {"g": g, "artist": artist, "voice": voice, "concept": concept, "motion": motion, "language": language}
    given |= {"colour": colour, "size": size}
    for kind, weight in given.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise XgapError(f"{kind} of the oracle is a number, not {weight!r}")
    options = {kind: weight for kind, weight in given.items() if weight != DEFAULTS.get(kind, 0)}
    read = {kind: float(weight) for kind, weight in given.items() if weight and kind != "g"}
    rows = _rows(data_root())
    towers: dict[str, Any] = {
        "image": OracleTower("image", float(g), read, rows),
        "text": OracleTextTower("text", float(g), read, rows),
        "audio": OracleTower("audio", float(g), read, rows),
    }
    return Model(
        spelled(NAME, (), options),
        {**towers, "video": towers["image"]},
        weights_digest=_digest(sorted((*tag, row) for tag, row in rows.items())),
        device=torch.device(device),
        architecture=_digest([NAME, float(g), sorted(read.items())]),
    )


class OracleTower:
    """The oracle's tower of one modality; see the head of this module. Nothing in it changes once it is made.

    Args:
        space: whose code marks the modality, one of `MODALITIES`.
        g, weights: see `oracle`.
        rows: tag to its row of the code matrix.
    """

    def __init__(self, space: str, g: float, weights: Mapping[str, float], rows: Mapping[Tag, int]) -> None:
        self.space, self.g, self.weights, self.rows = space, g, dict(weights), rows
        self.probes = _probes(space)

    def prepare(self, items: Sequence[Any]) -> Int[Tensor, "n length"]:
        """Rows of the code matrix of the tags that have a weight, padded with `NOTHING`.

        Raises:
            XgapError: a tag that the oracle has no code of, or more tags than an item may have.
        """
        batch = torch.full((len(items), LENGTH), NOTHING, dtype=torch.long)
        for place, item in enumerate(items):
            read = [self._row(tag) for tag in tags_of(item) if tag[0] in self.weights]
            if len(read) > LENGTH:
                raise XgapError(f"an item has {len(read)} tags, and the oracle reads {LENGTH} at most")
            batch[place, : len(read)] = torch.tensor(read, dtype=torch.long)
        return batch

    def encode(self, batch: Int[Tensor, "n length"]) -> Float[Tensor, "n d"]:
        """Features `[n, d]`, of unit length.

        Raises:
            XgapError: an item without a tag that has a weight.
        """
        self._check_read(batch)
        rows = computable(batch)
        total = torch.zeros(len(rows), DIM, dtype=torch.float64, device=rows.device)
        for kind, weight in self.weights.items():
            own = (rows >= ROOMS[kind]) & (rows < _end(kind))
            counts = torch.zeros_like(total).scatter_add_(1, rows.clamp(min=0), own.double())
            total += weight * counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        total[:, ROOMS["modality"] + MODALITIES.index(self.space)] += self.g
        features = total @ codes().to(total.device)
        return (features / features.norm(dim=1, keepdim=True)).float().to(batch.device)

    def hidden(self, batch: Int[Tensor, "n length"]) -> tuple[Float[Tensor, "n L d"], Tensor]:
        """One token per concept of an item, in the order of its tags, with all that is not a concept, and a mask.

        Returns:
            Tokens `[n, L, d]` of unit length, L the most concepts of an item in this batch, and bool `[n, L]`.
        """
        self._check_read(batch)
        concept = (batch >= ROOMS["concept"]) & (batch < _end("concept"))
        order = (~concept).long().argsort(dim=1, stable=True)
        longest = max(1, int(concept.sum(dim=1).max()))
        tokens = batch.gather(1, order)[:, :longest]
        mask = concept.gather(1, order)[:, :longest]
        others = batch.masked_fill(concept, NOTHING)
        each = others[:, None].repeat(1, longest, 1)
        each = torch.cat([tokens[..., None].where(mask[..., None], torch.tensor(NOTHING)), each], dim=2)
        flat = each.flatten(0, 1)
        made = torch.zeros(len(flat), DIM, device=batch.device)
        some = (flat != NOTHING).any(dim=1)
        made[some] = self.encode(flat[some])
        return made.unflatten(0, (len(batch), longest)), mask

    def _check_read(self, batch: Tensor) -> None:
        bare = int((batch == NOTHING).all(dim=1).sum())
        if bare:
            what = f"{bare} of {len(batch)} {self.space} items carry no tag that the oracle reads"
            raise XgapError(f"{what} ({', '.join(self.weights)}); it encodes the items of embedded datasets alone")

    def _row(self, tag: Tag) -> int:
        if tag not in self.rows:
            known = [name for kind, name in self.rows if kind == tag[0]]
            raise unknown_name(f"{tag[0]} of the oracle", tag[1], known)
        return self.rows[tag]


class OracleTextTower(OracleTower):
    """The oracle's tower of texts: its token ids are the rows of tags, so that texts of other tags are other texts."""

    def tokenize(self, captions: Sequence[str]) -> Int[Tensor, "n length"]:
        """The same as `prepare`."""
        return self.prepare(captions)


@lru_cache(maxsize=1)
def codes() -> Float[Tensor, "d d"]:
    """The code matrix: `(-1)^popcount(i & j) / sqrt(d)`, built by doubling; rows are exactly orthogonal."""
    made = torch.ones(1, 1, dtype=torch.float64)
    while len(made) < DIM:
        made = torch.cat([torch.cat([made, made], dim=1), torch.cat([made, -made], dim=1)])
    return made / math.sqrt(DIM)


@lru_cache(maxsize=4)
def _rows(root: Path) -> dict[Tag, int]:
    """The row of each tag: its position among the sorted names of the same sort, whatever was used before."""
    folder = root / "emoji"
    names = {
        "artist": _names_in(folder / "pictures.json"),
        "voice": sorted(VOICES),
        "motion": sorted(MOTIONS),
        "language": sorted(LANGUAGES),
        "colour": sorted(COLOURS),
        "size": sorted(SIZES),
        "concept": _names_in(folder / "concepts.json"),
    }
    rows = {(kind, name): ROOMS[kind] + place for kind, own in names.items() for place, name in enumerate(own)}
    full = next((kind for kind, own in names.items() if ROOMS[kind] + len(own) > _end(kind)), None)
    if full is not None:
        raise XgapError(f"the oracle has no room for {len(names[full])} names of kind {full}")
    return rows


def _names_in(file: Path) -> list[str]:
    try:
        return sorted(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise XgapError(f"{file} cannot be read ({error}); restore it from the repository") from error


def _end(kind: str) -> int:
    return min((first for first in ROOMS.values() if first > ROOMS[kind]), default=DIM)


def _probes(space: str) -> tuple[Any, ...]:
    """Two items of a modality, by which one oracle is distinguished from another."""
    tags = [(("concept", "1f43b"), ("artist", "noto")), (("concept", "1fa81"), ("artist", "twemoji"))]
    if space != "image":
        return tuple(TaggedText("probe", own) for own in tags)
    return tuple(tagged(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), own) for own in tags)


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
