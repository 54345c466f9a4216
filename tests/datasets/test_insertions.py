"""Attributes inserted into captions: the score, the places, the rules, and the published layout."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.datasets.insertions import (
    Described,
    allowed,
    described,
    inserted,
    insertion_scores,
    perturb,
    places_of,
    read_described,
)


def test_the_known_scores_of_two_candidates() -> None:
    found = insertion_scores([0.6, 0.2], [0.1, 0.9], [1 - 0.7, 1 - 0.5], (1, 5, 5))
    assert found.tolist() == pytest.approx([(1 + 0 + 5) / 11, (0 + 5 + 0) / 11])


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 5))
    parts = [rng.normal(size=k) if seed else np.full(k, 0.3) for _ in range(3)]
    weights = tuple(rng.normal(size=3) * (0.1 if seed == 1 else 2))

    def between(values: Sequence[float]) -> list[float]:
        low, high = min(values), max(values)
        if low == high:
            low = 0.0
        return [0.0 if high == low else (value - low) / (high - low) for value in values]

    sides = [between(list(parts[0])), between(list(parts[1])), between([1 - c for c in parts[2]])]
    total = max(sum(abs(w) for w in weights), 1)
    expected = [sum(w * side[i] for w, side in zip(weights, sides, strict=True)) / total for i in range(k)]
    assert insertion_scores(*parts, weights).tolist() == pytest.approx(expected)


def test_equal_values_count_fully_and_zeros_not_at_all() -> None:
    assert insertion_scores([0.4, 0.4], [0, 0], [0.2, 0.2]).tolist() == pytest.approx([2 / 3] * 2)
    for wrong in (([], [], []), ([1, 2], [1], [1, 2])):
        with pytest.raises(xg.XgapError, match="one number a candidate"):
            insertion_scores(*wrong)


def cosines(values: dict[str, float]):
    """Cosines by the first word of a table that stands in the text."""
    return lambda ids, texts: [next(c for word, c in values.items() if word in text.split()) for text in texts]


ROW = Described("t", "i", "a kite", ["kite", "kite"], ["large", "red"])


def test_weights_0_0_1_take_the_lowest_cosine_and_so_does_least_like() -> None:
    for own in ({"large": 0.1, "red": 0.3}, {"large": 0.3, "red": 0.1}):
        lowest = min(own, key=own.__getitem__)
        for how in ({"weights": (0, 0, 1)}, {"pick": "least-like"}):
            assert perturb([ROW], image_cosines=cosines(own), **how) == [f"a {lowest} kite"]


def test_the_score_weighs_likelihood_likeness_to_the_attribute_and_distance_from_the_image() -> None:
    row = Described("t", "i", "a kite", ["kite"], ["red"])

    def propose(before: str, noun: str, behind: str) -> list[tuple[str, float]]:
        assert (before, noun, behind) == ("a ", "kite", "")
        return [("crimson", 0.2), ("big", 0.6), ("the", 0.9), ("kite", 0.8), (",", 0.7)]

    def similarity(words: Sequence[str], attributes: Sequence[str]) -> list[list[float]]:
        assert list(attributes) == ["red"]
        return [[{"big": 0.1, "crimson": 0.9}[word]] for word in words]

    how = {"propose": propose, "similarity": similarity, "image_cosines": cosines({"big": 0.3, "crimson": 0.5})}
    assert perturb([row], weights=(1, 5, 5), **how) == ["a big kite"]  # 6/11 against 5/11
    assert perturb([row], weights=(1, 5, 1), **how) == ["a crimson kite"]
    assert perturb([row], weights=(1, 1, 0), k=1, **how) == ["a big kite"]  # the likeliest alone


def test_the_control_takes_an_attribute_of_the_object_alone_and_each_of_them_for_some_seed() -> None:
    found = {perturb([ROW], "random", seed=seed)[0] for seed in range(20)}
    assert found == {"a large kite", "a red kite"}
    assert perturb([ROW], "random", seed=3) == perturb([ROW], "random", seed=3)
    proposing = perturb([ROW], "random", propose=lambda *_: [("huge", 1.0)], image_cosines=lambda *_: 1 / 0)
    assert proposing[0] in found


def test_a_caption_that_names_no_object_stays_as_it_is() -> None:
    rows = [Described("t", "i", "nothing here", ["kite"], ["red"]), Described("u", "i", "a kites", ["kite"], ["red"])]
    assert perturb(rows, "random") == [row.text for row in rows]
    assert perturb([Described("t", "i", "a kite", ["kite"], [""])], "random") == ["a kite"]
    assert perturb([], "random") == []


def test_places_are_filled_from_left_to_right_and_later_ones_see_the_earlier_words() -> None:
    row = Described("t", "i", "an owl, a kite and gloves", ["kite", "owl", "gloves"], ["red", "brown", "white"])
    seen: list[str] = []

    def images(ids: Sequence[str], texts: Sequence[str]) -> list[float]:
        seen.extend(texts)
        return [0.1] * len(texts)

    made = perturb([row], image_cosines=images)
    assert made == ["a brown owl, a red kite and white gloves"]
    assert seen == ["a brown owl, a kite and gloves", "a brown owl, a red kite and gloves", made[0]]


def test_a_word_that_stands_before_the_noun_is_not_said_twice() -> None:
    row = Described("t", "i", "a red kite", ["kite"], ["red"])
    assert perturb([row], "random") == ["a red kite"]
    assert allowed([("red", 0.9), ("big", 0.1)], "kite", "a red ") == [("big", 0.1)]


@pytest.mark.parametrize(
    ("text", "start", "word", "expected"),
    [
        ("a kite", 2, "orange", "an orange kite"),
        ("An owl", 3, "brown", "A brown owl"),
        ("panda bear", 6, "red", "panda red bear"),
        ("gloves", 0, "red", "red gloves"),
        ("the owl", 4, "old", "the old owl"),
    ],
)
def test_an_article_fits_the_word_behind_it(text: str, start: int, word: str, expected: str) -> None:
    assert inserted(text, start, word) == expected


def test_places_are_whole_words_and_the_longer_name_wins() -> None:
    assert places_of("a teddy bear and bears, a BEAR", ["bear", "teddy bear", ""]) == [
        (2, 12, "teddy bear"),
        (26, 30, "bear"),
    ]


def test_scenes_know_their_attributes_and_each_inserted_word_is_true() -> None:
    data = xg.load_dataset("emoji-scenes").split("val")
    names = data.texts.parts_of("names")
    rows = described(data.texts)
    assert len(rows) == len(data.texts)
    assert all(data.labels_of("scene")[row.id] == row.image for row in rows)
    for row, said in zip(rows[:50], perturb(rows[:50], "random"), strict=True):
        assert said != row.text
        for place in names.places[row.id]:
            column = {kind: names.columns[kind][place] for kind in ("name", "size", "colour")}
            true = {f"{column[kind]} {column['name']}" for kind in ("size", "colour")}
            assert sum(said.count(phrase) for phrase in true if not phrase.startswith(" ")) >= 1
    with pytest.raises(xg.XgapError, match="unknown column of the parts names: 'shape'"):
        described(data.texts, kinds=("shape",))


HEADER = "file,text,objects,attributes,augmented\n"


def test_the_published_layout_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    one = "1.jpg,a kite,\"['kite', 'kite']\",\"['large', 'red']\",a red kite\n"
    path.write_text(HEADER + one + one.replace("a red", "a large"))
    rows, changed = read_described(path)
    assert [row.id for row in rows] == ["1.jpg#0", "1.jpg#1"]
    assert (rows[0].image, rows[0].objects, rows[0].attributes) == ("1.jpg", ["kite", "kite"], ["large", "red"])
    assert changed == ["a red kite", "a large kite"]
    lines = tmp_path / "some.jsonl"
    lines.write_text(json.dumps({"file": "1.jpg", "text": "a kite", "objects": ["kite"], "attributes": ["red"]}))
    rows, changed = read_described(lines)
    assert (rows[0].attributes, changed) == (["red"], None)


@pytest.mark.parametrize("nothing", ["''", "None"])
def test_an_object_without_an_attribute_keeps_its_place(nothing: str, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    objects = f"\"['kite', 'owl', {nothing}]\""
    path.write_text(f"file,text,objects,attributes\n1.jpg,a kite and an owl,{objects},\"[{nothing}, 'red', 'blue']\"\n")
    ((row,), _) = read_described(path)
    assert (row.attributes_of("kite"), row.attributes_of("owl")) == ([], ["red"])
    assert perturb([row], "random") == ["a kite and a red owl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("objects,", "") + "1.jpg,a,[],b\n", "unknown column of .*: 'objects'"),
        (HEADER + "1.jpg,a kite,\"['kite']\",\"['large', 'red']\",b\n", "row 1 of .*: .* 1 objects and 2 attributes"),
        (HEADER + "1.jpg,a kite,\"['kite']\",\"['red']\",\n", "row 1 of .* needs one text, and one augmented"),
    ],
)
def test_a_damaged_table_is_named_by_its_row(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(text)
    with pytest.raises(xg.XgapError, match=message):
        read_described(path)


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(xg.XgapError, match="unknown pick 'best'"):
        perturb([ROW], "best")
    with pytest.raises(xg.XgapError, match="give image_cosines"):
        perturb([ROW])
    with pytest.raises(xg.XgapError, match="three weights, of likelihood, attribute and image, not 2"):
        perturb([ROW], image_cosines=cosines({"large": 0.1, "red": 0.3}), weights=(1, 1))
    with pytest.raises(xg.XgapError, match="k candidates a place, 1 or more, not 0"):
        perturb([ROW], image_cosines=cosines({"large": 0.1, "red": 0.3}), k=0)
