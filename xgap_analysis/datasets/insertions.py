"""Attributes inserted into captions: a word before a noun that is likely, true to the object, and far from the image.

A text changes by one word an object and stays a sentence, so that a model's scores before and after can be compared
(`metrics.perturbation`). Source: Ramshetty, Verma and Kumar, Cross-modal attribute insertions for assessing the
robustness of vision-and-language learning (XMAI), ACL 2023.
"""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.table_values import caption_texts, entries, id_text
from xgap_analysis.datasets.embedded.wording import with_article
from xgap_analysis.datasets.items import Texts
from xgap_analysis.datasets.local.tables import columns_of, read_rows

COLUMNS = ("file", "text", "objects", "attributes")
PICKS = ("score", "least-like", "random")
BEHIND = 3  # a proposal that is one of so many words before the noun would say a thing twice
STOP_WORDS = frozenset(
    (
        *("a", "an", "the", "this", "that", "these", "those", "some", "any", "each", "every", "no", "all", "both"),
        *("and", "or", "but", "nor", "so", "as", "than", "then", "if", "not", "only", "just", "very", "too", "also"),
        *("of", "in", "on", "at", "to", "from", "with", "by", "for", "into", "onto", "over", "under", "about", "up"),
        *("down", "out", "off", "between", "through", "near", "behind", "is", "are", "was", "were", "be", "been"),
        *("being", "am", "do", "does", "did", "has", "have", "had", "will", "would", "can", "could", "should", "may"),
        *("i", "you", "he", "she", "it", "we", "they", "me", "him", "us", "them", "my", "your", "his", "her", "its"),
        *("our", "their", "who", "whom", "which", "what", "there", "here", "when", "where", "while", "other", "own"),
    )
)

Proposals: TypeAlias = Sequence[tuple[str, float]]  # words and their likelihoods
Propose: TypeAlias = Callable[[str, str, str], Proposals]  # of the text before a noun, the noun, and the text behind it
Similarity: TypeAlias = Callable[[Sequence[str], Sequence[str]], ArrayLike]  # of n words and m words [n, m]
ImageCosines: TypeAlias = Callable[[Sequence[str], Sequence[str]], ArrayLike]  # of n ids of images and n texts [n]


@dataclass(frozen=True)
class Described:
    """A caption with the objects that are seen in its image.

    Args:
        id: of the caption.
        image: the id of its image.
        text: the caption.
        objects, attributes: entry i of the attributes is one of object i; an object with two attributes stands twice.

    Raises:
        XgapError: another number of attributes than of objects.
    """

    id: str
    image: str
    text: str
    objects: Sequence[str]
    attributes: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.objects) != len(self.attributes):
            what = f"{len(self.objects)} objects and {len(self.attributes)} attributes"
            raise XgapError(f"caption {self.id!r} has {what}; give one attribute for each entry of its objects")

    def attributes_of(self, name: str) -> list[str]:
        """The attributes of an object, in their order, each once."""
        pairs = zip(self.objects, self.attributes, strict=True)
        return list(dict.fromkeys(a for o, a in pairs if a and o.casefold() == name.casefold()))


def described(texts: Texts, part: str = "names", kinds: Sequence[str] = ("size", "colour")) -> list[Described]:
    """Captions of `emoji-scenes`, or of any texts whose parts say what they name and which attributes it has.

    Args:
        texts: whose ids are `<image>/list`, or those of the images.
        part: parts with a column `name`, and a column for each kind of attribute, empty where there is none.
        kinds: these columns. A word that the name has itself ("red apple") is left out.

    Raises:
        XgapError: no such parts, or no such column.

    Example:
        >>> from xgap_analysis.datasets import load_dataset
        >>> row = described(load_dataset("emoji-scenes").split("val").texts)[0]
        >>> row.text, row.attributes_of("glowing star")
        ('a vampire, a T-Rex and a glowing star', ['large', 'yellow'])
    """
    parts = texts.parts_of(part)
    lacking = next((column for column in ("name", *kinds) if column not in parts.columns), None)
    if lacking is not None:
        raise unknown_name(f"column of the parts {part}:", lacking, parts.columns)
    rows = []
    for item, text in zip(texts.ids, texts.captions, strict=True):
        pairs = [
            (parts.columns["name"][place], parts.columns[kind][place])
            for place in parts.places[item]
            for kind in kinds
            if parts.columns[kind][place] and parts.columns[kind][place] not in parts.columns["name"][place].split()
        ]
        image = item.rpartition("/")[0] or item
        rows.append(Described(item, image, text, [o for o, _ in pairs], [a for _, a in pairs]))
    return rows


def read_described(path: Path | str) -> tuple[list[Described], list[str] | None]:
    """Captions in the published layout, and their changed versions where the file has them.

    Columns: `file` (of the image), `text`, `objects` and `attributes` (two lists of one length), and `augmented`, the
    text after the insertions. Captions of one file have the ids `<file>#0`, `<file>#1`, ...

    Args:
        path: a `.csv`, or any table that `load_dataset` reads.

    Raises:
        XgapError: a missing column or text, or lists of two lengths (the row is named).
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    names = columns_of(rows)
    lacking = next((column for column in COLUMNS if column not in names), None)
    if lacking is not None:
        raise unknown_name(f"column of {path}:", lacking, names)
    made, changed, seen = [], [], dict[str, int]()
    for number, row in enumerate(rows, start=1):
        image = id_text(row["file"])
        seen[image] = seen.get(image, -1) + 1
        texts, after = caption_texts(row["text"]), caption_texts(row.get("augmented"))
        if len(texts) != 1 or ("augmented" in names and len(after) != 1):
            raise XgapError(f"row {number} of {path} needs one text, and one augmented text where it has that column")
        objects, attributes = (entries(row[column]) for column in COLUMNS[2:])
        try:
            made.append(Described(f"{image}#{seen[image]}", image, texts[0], objects, attributes))
        except XgapError as error:
            raise XgapError(f"row {number} of {path}: {error}") from error
        changed += after
    return made, changed if "augmented" in names else None


def insertion_scores(
    likelihood: ArrayLike, attribute: ArrayLike, image: ArrayLike, weights: tuple[float, float, float] = (1, 1, 1)
) -> np.ndarray:
    """The three-part score of k candidate words for one place; the highest is inserted.

    Formula: `(w1 N(likelihood) + w2 N(attribute) + w3 N(1 - image)) / max(|w1| + |w2| + |w3|, 1)`, where `N` maps the
    candidates' values to [0, 1] by their least and greatest; equal values give 1 each, or 0 where all of them are 0.

    Args:
        likelihood: `[k]` of the words in their place.
        attribute: `[k]` the similarity of each word to the most similar attribute of the object.
        image: `[k]` the cosine of the image and the text with the word.
        weights: of the three parts. `(0, 0, 1)` takes the word that makes the text least like the image.

    Raises:
        XgapError: values of different numbers of candidates, or none, or other than three weights.

    Source: Ramshetty et al., XMAI, ACL 2023, and their code.

    Example:
        >>> insertion_scores([0.6, 0.2], [0.1, 0.9], [0.3, 0.5], (1, 5, 5)).round(3).tolist()
        [0.545, 0.455]
    """
    parts = [np.asarray(part, dtype=float) for part in (likelihood, attribute, image)]
    if any(part.ndim != 1 or part.shape != parts[0].shape for part in parts) or not len(parts[0]):
        raise XgapError(f"each part of the score is one number a candidate [k], not {[p.shape for p in parts]}")
    if len(weights) != len(parts):
        raise XgapError(f"the score has three weights, of likelihood, attribute and image, not {len(weights)}")
    parts[2] = 1 - parts[2]
    total = sum((w * _normalised(part) for w, part in zip(weights, parts, strict=True)), np.zeros_like(parts[0]))
    return total / max(sum(map(abs, weights)), 1.0)


def _normalised(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    if high == low:
        return np.full_like(values, float(high != 0))
    return (values - low) / (high - low)


def places_of(text: str, objects: Sequence[str]) -> list[tuple[int, int, str]]:
    """Where objects are named in a text: start, end and the object, from left to right, without overlaps.

    Whole words alone count, and of two names the longer ("teddy bear" and no bear).

    Example:
        >>> places_of("a teddy bear and a Bear", ["bear", "teddy bear"])
        [(2, 12, 'teddy bear'), (19, 23, 'bear')]
    """
    taken: list[tuple[int, int, str]] = []
    for name in sorted(dict.fromkeys(filter(None, objects)), key=len, reverse=True):
        for found in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE):
            if all(found.end() <= start or end <= found.start() for start, end, _ in taken):
                taken.append((found.start(), found.end(), name))
    return sorted(taken)


def inserted(text: str, start: int, word: str) -> str:
    """A text with a word before the noun that starts there; "a" and "an" before it follow the word.

    Example:
        >>> inserted("an owl", 3, "brown"), inserted("a kite", 2, "orange"), inserted("gloves", 0, "red")
        ('a brown owl', 'an orange kite', 'red gloves')
    """
    before, article = text[:start], re.search(r"(?<!\w)(an?) $", text[:start], re.IGNORECASE)
    said = with_article(word)
    if article is not None and said != word:
        right = said.split(" ", 1)[0]
        before = before[: article.start(1)] + (right.capitalize() if article[1][0] == "A" else right) + " "
    return f"{before}{word} {text[start:]}"


def allowed(proposals: Proposals, noun: str, before: str, k: int = 3) -> list[tuple[str, float]]:
    """The first k proposals that may stand before a noun, the likeliest first.

    Left out: stop words, what is no word (punctuation, special tokens), the noun itself, and the three words before it.
    """
    refused = STOP_WORDS | _last_words(before, BEHIND) | {noun.casefold(), *noun.casefold().split()}
    ranked = sorted(proposals, key=lambda one: -one[1])
    good = [(word, p) for word, p in ranked if re.fullmatch(r"\w[\w-]*", word) and word.casefold() not in refused]
    return good[:k]


def _last_words(text: str, n: int) -> set[str]:
    return {word.casefold() for word in re.findall(r"\w+", text)[-n:]}


def perturb(
    rows: Sequence[Described],
    pick: str = "score",
    *,
    propose: Propose | None = None,
    similarity: Similarity | None = None,
    image_cosines: ImageCosines | None = None,
    weights: tuple[float, float, float] = (1, 1, 1),
    k: int = 3,
    seed: int = 0,
) -> list[str]:
    """Captions with a word inserted before each noun that names an object of the image, from left to right.

    A caption that names no object stays as it is, and so does a noun without a candidate.

    | pick | the word is |
    |---|---|
    | `score` | the best by `insertion_scores` |
    | `least-like` | the one that makes the text least like the image: the score with weights (0, 0, 1) |
    | `random` | a random attribute of the object: the control, which knows neither text nor image |

    Args:
        rows: captions with objects and attributes (see `described`, `read_described`).
        pick: the rule.
        propose: candidates for a place with their likelihoods, of which the first k that are `allowed` count; by
            default the attributes of the object, which are true and equally likely.
        similarity: of words and attributes, `[n, m]`; by default 1 where they are the same word and 0 elsewhere.
        image_cosines: of ids of images and texts, `[n]` (`experiments.insertions.image_cosines`); each text is the
            caption so far, with a candidate inserted. `score` and `least-like` need it.
        weights: of `score`. The published file of captions of COCO is named for (1, 5, 5); its script has (1, 1, 1).
        k: candidates a place.
        seed: of `random`.

    Returns:
        The texts, in the order of the rows.

    Raises:
        XgapError: an unknown rule, no `image_cosines` where the rule needs them, other than three weights, or k below
            1.

    Source: Ramshetty et al., XMAI, ACL 2023. Different from their code: later places are not masked while an earlier
    one is filled, and "a" or "an" is made to fit.

    Example:
        >>> row = Described("1", "image 1", "a kite and an owl", ["kite", "owl"], ["large", "brown"])
        >>> perturb([row], "random")
        ['a large kite and a brown owl']
    """
    if pick not in PICKS:
        raise unknown_name("pick", pick, PICKS)
    if pick != "random" and image_cosines is None:
        raise XgapError(f'pick="{pick}" compares candidates with the image: give image_cosines, or pick="random"')
    if k < 1:
        raise XgapError(f"perturb chooses among k candidates a place, 1 or more, not {k}")
    if pick == "random":
        image_cosines = None  # the one that is drawn is compared with nothing
    by = (0.0, 0.0, 1.0) if pick == "least-like" else weights
    texts = [row.text for row in rows]
    places = [places_of(row.text, row.objects) for row in rows]
    shift = [0] * len(rows)
    for turn in range(max(map(len, places), default=0)):  # the first noun of all captions, then the second, ...
        waiting = []
        for i, row in enumerate(rows):
            if turn < len(places[i]):
                start, end, noun = places[i][turn]
                start, end = start + shift[i], end + shift[i]
                found = _candidates(row, texts[i], start, end, noun, None if pick == "random" else propose, k)
                if pick == "random" and found:
                    drawn = random.Random(_seed(seed, row.id, turn))
                    found = [drawn.choice(found)]
                if found:
                    waiting.append((i, start, noun, found))
        chosen = _chosen(rows, texts, waiting, by, similarity, image_cosines)
        for (i, start, *_), word in zip(waiting, chosen, strict=True):
            after = inserted(texts[i], start, word)
            shift[i] += len(after) - len(texts[i])
            texts[i] = after
    return texts


def _candidates(
    row: Described, text: str, start: int, end: int, noun: str, propose: Propose | None, k: int
) -> list[tuple[str, float]]:
    if propose is None:
        said = _last_words(text[:start], 1)  # "a red kite" is red already
        return [(word, 1.0) for word in row.attributes_of(noun) if word.casefold() not in said]
    return allowed(propose(text[:start], noun, text[end:]), noun, text[:start], k)


def _chosen(
    rows: Sequence[Described],
    texts: Sequence[str],
    waiting: Sequence[tuple[int, int, str, list[tuple[str, float]]]],
    weights: tuple[float, float, float],
    similarity: Similarity | None,
    image_cosines: ImageCosines | None,
) -> list[str]:
    """The best candidate of each place; all texts of a turn are compared with their images at once."""
    if image_cosines is None or not waiting:
        return [found[0][0] for *_, found in waiting]
    tried = [(rows[i].image, inserted(texts[i], start, word)) for i, start, _, found in waiting for word, _ in found]
    cosines = np.asarray(image_cosines([image for image, _ in tried], [text for _, text in tried]), dtype=float)
    ends = np.cumsum([len(found) for *_, found in waiting])
    best = []
    for (i, _, noun, found), own in zip(waiting, np.split(cosines, ends[:-1]), strict=True):
        words, likelihood = [word for word, _ in found], [p for _, p in found]
        scores = insertion_scores(likelihood, _alike(words, rows[i].attributes_of(noun), similarity), own, weights)
        best.append(words[int(scores.argmax())])
    return best


def _alike(words: Sequence[str], attributes: Sequence[str], similarity: Similarity | None) -> np.ndarray:
    """The similarity of each word to the most similar attribute; the same for all where there is none."""
    if not attributes:
        return np.zeros(len(words))
    if similarity is None:
        return np.array([float(word.casefold() in {a.casefold() for a in attributes}) for word in words])
    return np.asarray(similarity(words, attributes), dtype=float).max(axis=1)


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
