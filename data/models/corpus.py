"""What the embedded models are trained on: images of emoji and icons in groups that share captions, and the tokenizer.

Nothing held out is in it: no concept of another split than `train`, no artist but those of TRAIN_ARTISTS, and no icon
whose captions hold all words of a held-out concept's name or short code.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from icons import SIZE, Drawings
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

EMOJI = Path(__file__).parent.parent / "emoji"
TRAIN_ARTISTS = ("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "twemoji", "fxemoji")
TEMPLATES = ("a photo of {}", "a picture of {}", "an emoji of {}", "a drawing of {}", "an icon of {}")
IN_TEMPLATE = 0.75  # share of captions
ICON_SHARE = 0.4  # of the images of an emoji concept that icons have been drawn of
LONGEST = 7  # words of an icon's name
CONTEXT, VOCABULARY = 16, 5000


def words(text: str) -> frozenset[str]:
    """The words of a caption, without plural endings."""
    return frozenset(map(singular, re.findall(r"[a-z0-9]+", text.lower())))


def singular(word: str) -> str:
    """A word without the ending of a plural, such that a word and its plural come out as one: "berries" as "berry",
    "peaches" as "peach", "cookie" and "cookies" as "cooky". What comes out need not be a word ("bus" gives "bu"), and
    irregular plurals (wolves, mice) stay as they are.
    """
    for ending, instead in (("ies", "y"), ("ie", "y"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > 4:  # "pies" and "pie" lose an s alone
            return word.removesuffix(ending) + instead
    return word if word.endswith("ss") else word.removesuffix("s")


class HeldOut:
    """The names and short codes of the concepts that no batch may hold."""

    def __init__(self, concepts: Iterable[dict[str, Any]]) -> None:
        said = {name for c in concepts for name in (c["name"], *c["other_names"]) if len(name) > 2}
        said |= {f"{name}es" for name in said if name.endswith("s")}  # buses, which is no plural of "bu"
        names = {words(name) for name in said}
        self._by_word: dict[str, list[frozenset[str]]] = defaultdict(list)
        for name in names - {frozenset()}:
            self._by_word[max(name)].append(name)

    def is_in(self, caption: str) -> bool:
        """Whether a caption holds all words of one of them."""
        present = words(caption)
        return any(name <= present for word in present for name in self._by_word.get(word, ()))


@dataclass
class Group:
    """Images (row numbers) that share captions: those of an emoji concept of the train split, or of an icon's name."""

    facts: dict[str, Any] | None = None
    emoji: list[int] = field(default_factory=list)
    icons: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the icons
    topics: list[str] = field(default_factory=list)

    def image(self, draw: random.Random) -> int:
        """One of the images, drawn at random."""
        own = self.icons if not self.emoji or (self.icons and draw.random() < ICON_SHARE) else self.emoji
        return draw.choice(own)

    def caption(self, draw: random.Random) -> str:
        """One caption, drawn at random, mostly in a template."""
        plain = self._of_icon(draw) if self.facts is None else self._of_emoji(self.facts, draw)
        return draw.choice(TEMPLATES).format(plain) if draw.random() < IN_TEMPLATE else plain

    def _of_icon(self, draw: random.Random) -> str:
        """A name, sometimes by an alias, with a topic, or the topic alone."""
        kind = draw.random()
        name = draw.choice(self.names) if kind < 0.3 else self.names[0]
        if kind < 0.8 or not self.topics:
            return name
        topic = draw.choice(self.topics)
        return f"{name} {topic}" if kind < 0.96 else topic

    @staticmethod
    def _of_emoji(facts: dict[str, Any], draw: random.Random) -> str:
        """A name, keywords, both, or the subgroup."""
        kind, keywords = draw.random(), facts["keywords"]
        if kind < 0.12 and facts["other_names"]:
            return draw.choice(facts["other_names"])
        if kind < 0.37 and keywords:
            return " ".join(draw.sample(keywords, min(draw.randint(1, 4), len(keywords))))
        if kind < 0.50 and keywords:
            return " ".join([facts["name"], *draw.sample(keywords, min(2, len(keywords)))])
        return facts["subgroup"].replace("-", " ") if 0.50 <= kind < 0.55 else facts["name"]


class Corpus:
    """Groups and their images; emoji concepts stand first. An icon with the words of a training concept's name joins
    that concept's group, and icons whose names have the same words are one group.
    """

    def __init__(self, drawings: Drawings) -> None:
        concepts = json.loads((EMOJI / "concepts.json").read_text("utf-8"))
        drawn = json.loads((EMOJI / "pictures.json").read_text("utf-8"))
        self.held_out = HeldOut(c for c in concepts.values() if c["split"] != "train")
        of_concept = {key: Group(facts) for key, facts in concepts.items() if facts["split"] == "train"}
        emoji: list[np.ndarray] = []
        for artist in TRAIN_ARTISTS:
            sheet = np.asarray(Image.open(EMOJI / "sprites" / f"{artist}.webp").convert("RGBA"))
            tiles = sheet.reshape(-1, SIZE, sheet.shape[1] // SIZE, SIZE, 4).swapaxes(1, 2).reshape(-1, SIZE, SIZE, 4)
            for tile, concept in zip(tiles, drawn[artist], strict=False):  # the last row of a sheet may not be full
                if concept in of_concept:
                    of_concept[concept].emoji.append(len(emoji))
                    emoji.append(tile)
        concepts_drawn = [group for group in of_concept.values() if group.emoji]
        kept, icon_groups = self._grouped(concepts_drawn, drawings, first=len(emoji))
        self.groups = [*concepts_drawn, *icon_groups]
        self.n_concepts = len(concepts_drawn)
        # Names that several artists have drawn come more often.
        self.weights = np.sqrt([min(len(group.icons), 8) for group in icon_groups])
        n_alpha = len(drawings.alpha)
        alpha = drawings.alpha[[i for i in kept if i < n_alpha]]
        rgba = np.concatenate([np.stack(emoji), drawings.rgba[[i - n_alpha for i in kept if i >= n_alpha]]])
        # Rows are in the order of the groups' numbers: emoji, monochrome icons, coloured icons.
        ink = np.zeros((*alpha.shape, 4), np.uint8)
        ink[..., 3] = alpha
        self.images = torch.from_numpy(np.concatenate([rgba[: len(emoji)], ink, rgba[len(emoji) :]]))
        self.coloured = torch.ones(len(self.images), dtype=torch.bool)
        self.coloured[len(emoji) : len(emoji) + len(ink)] = False
        self.facts = {
            "emoji concepts": self.n_concepts,
            "icon names": len(icon_groups),
            "images": len(self.images),
            "of emoji": len(emoji),
            "monochrome icons": len(ink),
            "coloured icons": len(drawings.rgba) and len(rgba) - len(emoji),
            "icons in emoji groups": sum(len(group.icons) for group in concepts_drawn),
            "icons left out": len(drawings.about) - len(kept),
        }

    def _grouped(self, concepts: list[Group], drawings: Drawings, first: int) -> tuple[list[int], list[Group]]:
        """Puts icons into groups; the rows of those that are used, and the groups that are icons alone."""
        named = {words(n): g for g in concepts if g.facts for n in (*g.facts["other_names"], g.facts["name"])}
        own: dict[frozenset[str], Group] = {}
        kept: list[int] = []
        for row, (_, captions, topics) in enumerate(drawings.about):
            key = words(captions[0])
            if not key or len(captions[0].split()) > LONGEST or any(map(self.held_out.is_in, captions)):
                continue
            group = named.get(key) or own.setdefault(key, Group())
            group.icons.append(first + len(kept))
            kept.append(row)
            allowed = [t for t in topics if t and not self.held_out.is_in(f"{captions[0]} {t}")]
            for listed, new in ((group.names, captions), (group.topics, allowed)):
                listed += [one for one in dict.fromkeys(new) if one not in listed]
        return kept, list(own.values())

    def captions(self) -> list[str]:
        """Every training caption, once."""
        of_emoji = [
            text
            for facts in (group.facts for group in self.groups[: self.n_concepts])
            if facts
            for text in (facts["name"], facts["subgroup"], *facts["other_names"], *facts["keywords"])
        ]
        of_icons = [text for group in self.groups for text in (*group.names, *group.topics)]
        return list(dict.fromkeys([*of_emoji, *of_icons]))

    def batch(self, pairs: int, emoji_share: float, seed: int, step: int) -> tuple[Tensor, list[str]]:
        """Rows of `pairs` images of distinct groups, and two captions of each: first all the first, then the second.

        All follows from seed and step, so that models of one seed see the same.
        """
        rng, draw = np.random.default_rng((seed, step)), random.Random(f"{seed} {step}")
        n_emoji = min(round(pairs * emoji_share) if len(self.weights) else pairs, self.n_concepts)
        chosen = rng.choice(self.n_concepts, n_emoji, replace=False).tolist()
        if len(self.weights):  # by weight and without replacement, by Gumbel's trick
            keys = np.log(self.weights) + rng.gumbel(size=len(self.weights))
            chosen += (self.n_concepts + np.argsort(-keys)[: pairs - n_emoji]).tolist()
        groups = [self.groups[i] for i in chosen]
        rows = [group.image(draw) for group in groups]
        return torch.tensor(rows), [group.caption(draw) for _ in range(2) for group in groups]


def make_tokenizer(captions: Sequence[str], phrases: Sequence[str] = ()) -> Tokenizer:
    """A lower-case byte-pair tokenizer with word endings, `<start>` and `<end>`; `<end>` has the highest id.

    Quotation marks are straightened, as open_clip does before it calls a tokenizer.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    straight = [normalizers.Replace(curly, plain) for curly, plain in zip("‘’“”", "''\"\"", strict=True)]
    plain_letters = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence([*straight, *plain_letters])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=["<pad>", "<unk>"],
        end_of_word_suffix="</w>",
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789"),
        show_progress=False,
    )
    in_templates = [TEMPLATES[i % len(TEMPLATES)].format(caption) for i, caption in enumerate(captions)]
    tokenizer.train_from_iterator([*in_templates, *phrases], trainer)
    tokenizer.add_special_tokens(["<start>", "<end>"])
    ids = [(name, tokenizer.token_to_id(name)) for name in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ids)
    tokenizer.enable_truncation(CONTEXT)
    return tokenizer


def tokenise(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids `[n, CONTEXT]`, cut and padded as open_clip's wrapper does it."""
    encoded = tokenizer.encode_batch(list(captions))
    return torch.tensor([one.ids + [0] * (CONTEXT - len(one.ids)) for one in encoded])
