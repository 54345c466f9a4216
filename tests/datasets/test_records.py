"""Images, texts, relevance and splits, against plain loops."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import NO_IMAGES, NO_TEXTS, Images, Texts

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8)
NAMES = st.lists(st.sampled_from([f"item-{i}" for i in range(12)]), min_size=1, max_size=8, unique=True)


def naive_labels(query: list[str], gallery: list[str]) -> torch.Tensor:
    return torch.tensor([[float(q == g) for g in gallery] for q in query])


# Images and texts


def test_images_open_by_place_and_keep_their_content_when_chosen_from() -> None:
    opened = []

    def opener(item: str) -> Image.Image:
        opened.append(item)
        return Image.new("RGB", (2, 2), (int(item), 0, 0))

    images = Images(("1", "2", "3"), opener, "digest")
    chosen = images.select(["3", "1"])
    assert opened == []
    assert (len(chosen), chosen.ids) == (2, ("3", "1"))
    assert [chosen.digest_of(item) for item in chosen.ids] == [images.digest_of(item) for item in ("3", "1")]
    assert len({images.digest_of(item) for item in images.ids}) == 3
    assert chosen.digest not in ("", images.digest)
    assert (Images(("1",), opener).digest_of("1"), Images(("1",), opener).digest) == ("", "")
    assert chosen[0].getpixel((0, 0)) == (3, 0, 0)
    assert opened == ["3"]


def test_texts_are_a_sequence_of_captions() -> None:
    texts = Texts(("a", "b", "c"), ("one", "two", "three"))
    assert (len(texts), texts[1], list(texts)) == (3, "two", ["one", "two", "three"])
    assert texts.select(["c", "a"]) == Texts(("c", "a"), ("three", "one"))


def test_the_digest_of_texts_knows_ids_captions_and_order() -> None:
    texts = Texts(("a", "b"), ("one", "two"))
    assert texts.digest == Texts(["a", "b"], ["one", "two"]).digest
    others = [
        Texts(("a", "c"), ("one", "two")),
        Texts(("a", "b"), ("one", "2")),
        Texts(("b", "a"), ("two", "one")),
        Texts(("a",), ("one",)),
    ]
    assert len({texts.digest, *(other.digest for other in others)}) == 5


def test_ids_and_captions_that_do_not_fit() -> None:
    with pytest.raises(XgapError, match="2 ids were given for 1 captions"):
        Texts(("a", "b"), ("one",))


def test_choosing_an_item_that_is_not_there_names_it() -> None:
    with pytest.raises(XgapError, match="'x'"):
        Texts(("a",), ("one",)).select(["x"])
    with pytest.raises(XgapError, match="'x'"):
        Images(("a",), lambda item: Image.new("RGB", (1, 1))).select(["a", "x"])


# Relevance


@given(LABELS, LABELS, st.data())
def test_labels_in_rows_equal_a_plain_loop(query: list[str], gallery: list[str], data: st.DataObject) -> None:
    query_ids, gallery_ids = [f"q{i}" for i in range(len(query))], [f"g{i}" for i in range(len(gallery))]
    bound = Relevance.from_labels(query, gallery).bind(query_ids, gallery_ids)
    start = data.draw(st.integers(0, len(query)))
    stop = data.draw(st.integers(start, len(query)))
    expected = naive_labels(query, gallery)
    assert torch.equal(bound.grades(start, stop), expected[start:stop])
    assert bound.grades(start, stop).dtype == torch.float32
    row, column, grade = bound.relevant(start, stop)
    assert torch.equal(torch.stack([row, column], dim=1), expected[start:stop].nonzero())
    assert grade.tolist() == [1] * len(row)
    assert bound.n_relevant.tolist() == expected.sum(dim=1).tolist()
    assert not bound.ignored(start, stop).any()


@given(NAMES, NAMES, st.data())
def test_labels_by_id_equal_a_plain_loop_whatever_the_order(
    query_ids: list[str], gallery_ids: list[str], data: st.DataObject
) -> None:
    label = {i: data.draw(st.sampled_from("abc")) for i in {*query_ids, *gallery_ids}}
    bound = Relevance.from_labels(label, {**label, "not here": "a"}).bind(query_ids, gallery_ids)
    expected = naive_labels([label[i] for i in query_ids], [label[i] for i in gallery_ids])
    assert torch.equal(bound.grades(0, len(query_ids)), expected)
    itself = torch.tensor([[q == g for g in gallery_ids] for q in query_ids])
    assert torch.equal(bound.ignored(0, len(query_ids)), itself)
    assert not bound.ignored(0, len(query_ids), exclude_self=False).any()


def test_labels_may_be_arrays_and_the_given_list_may_change_afterwards() -> None:
    labels = ["a", "b"]
    relevance = Relevance.from_labels(labels, np.array(["b", "a", "b"]))
    labels[0] = "b"
    assert relevance.bind(["q0", "q1"], ["x", "y", "z"]).grades(0, 2).tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, torch.tensor, pd.Series])
def test_labels_may_be_numbers_in_any_container(kind: Callable[[list[int]], Any]) -> None:
    relevance = Relevance.from_labels(kind([3, 1]), kind([1, 3, 1]))
    assert relevance.bind(["q0", "q1"], ["x", "y", "z"]).grades(0, 2).tolist() == [[0, 1, 0], [1, 0, 1]]


def test_labels_that_do_not_fit_the_rows() -> None:
    relevance = Relevance.from_labels(["a", "b"], ["a"])
    with pytest.raises(XgapError, match="2 query labels were given for 1 query vectors"):
        relevance.bind(["q"], ["g"])
    with pytest.raises(XgapError, match="1 gallery labels were given for 2 gallery vectors"):
        relevance.bind(["q", "r"], ["g", "h"])


def test_an_id_without_a_label_is_named() -> None:
    relevance = Relevance.from_labels({"q": "a"}, {"g": "a"})
    with pytest.raises(XgapError, match="2 gallery ids have no label, the first is 'h'"):
        relevance.bind(["q"], ["g", "h", "i"])
    with pytest.raises(XgapError, match="1 query ids have no label, the first is 'r'"):
        relevance.bind(["q", "r"], ["g"])


@given(NAMES, NAMES, st.data())
def test_graded_judgements_and_junk_equal_a_plain_loop(
    query_ids: list[str], gallery_ids: list[str], data: st.DataObject
) -> None:
    anywhere = st.sampled_from([f"item-{i}" for i in range(12)])
    qrels = data.draw(st.dictionaries(anywhere, st.dictionaries(anywhere, st.integers(-1, 3)), max_size=8))
    junk = data.draw(st.dictionaries(anywhere, st.lists(anywhere, max_size=4), max_size=8))
    bound = Relevance.from_qrels(qrels, junk).bind(query_ids, gallery_ids)
    n = len(query_ids)
    grades = [[float(max(qrels.get(q, {}).get(g, 0), 0)) for g in gallery_ids] for q in query_ids]
    assert bound.grades(0, n).tolist() == grades
    row, column, grade = bound.relevant(0, n)
    assert torch.equal(torch.stack([row, column], dim=1), torch.tensor(grades).reshape(n, -1).nonzero())
    assert grade.tolist() == [g for of in grades for g in of if g]
    assert bound.n_relevant.tolist() == [sum(g > 0 for g in of) for of in grades]
    for exclude_self in (True, False):
        left_out = [[g in junk.get(q, ()) or (exclude_self and q == g) for g in gallery_ids] for q in query_ids]
        assert bound.ignored(0, n, exclude_self).tolist() == left_out
    in_blocks = torch.cat([bound.grades(i, i + 1) for i in range(n)])
    assert in_blocks.tolist() == grades
    masks = torch.cat([bound.ignored(i, i + 1) for i in range(n)])
    assert torch.equal(masks, bound.ignored(0, n))


# Data sets


def blank(item: str) -> Image.Image:
    return Image.new("RGB", (4, 4))


def pets(**changed: object) -> Dataset:
    """Two images and one caption of each of three animals."""
    kinds = ("cat", "dog", "owl")
    images = [f"{kind}-{i}" for kind in kinds for i in range(2)]
    made: dict = {
        "name": "pets",
        "split_name": "all",
        "images": Images(images, blank, "d"),
        "texts": Texts([f"{kind}-text" for kind in kinds], kinds),
        "labels": {
            "kind": {i: i.split("-")[0] for i in (*images, *(f"{kind}-text" for kind in kinds))},
            "flies": {i: str(i.startswith("owl")) for i in images},
        },
        "class_names": {"kind": {kind: kind for kind in kinds}, "flies": {"True": "flying", "False": "walking"}},
    }
    return Dataset(**{**made, **changed})


def test_without_named_queries_every_item_asks_and_all_are_searched() -> None:
    data = pets()
    assert data.queries("image") == data.gallery("image") == tuple(data.images.ids)
    assert data.queries("text") == data.gallery("text") == ("cat-text", "dog-text", "owl-text")


def test_named_queries_are_not_in_the_gallery() -> None:
    data = pets(image_queries=("owl-0", "cat-0"))
    assert data.queries("image") == ("owl-0", "cat-0")
    assert data.gallery("image") == ("cat-1", "dog-0", "dog-1", "owl-1")
    with pytest.raises(XgapError, match="unknown modality of dataset pets: 'sound'; nearest names: image, text"):
        data.queries("sound")


def test_relevance_is_sharing_the_label_of_a_level() -> None:
    data = pets()
    bound = data.relevance().bind(["cat-0"], ["cat-0", "cat-1", "dog-0", "cat-text"])
    assert bound.grades(0, 1).tolist() == [[1, 1, 0, 1]]
    assert bound.ignored(0, 1).tolist() == [[True, False, False, False]]
    assert data.relevance("flies").bind(["cat-0"], ["dog-0", "owl-0"]).grades(0, 1).tolist() == [[1, 0]]
    with pytest.raises(XgapError, match="'pets' has no labels 'colour'; it has: kind, flies"):
        data.relevance("colour")


def test_a_data_set_without_labels_says_so() -> None:
    data = pets(labels={})
    with pytest.raises(XgapError, match="'pets' has no labels"):
        data.relevance()
    with pytest.raises(XgapError, match="'pets' has no labels"):
        data.limit(2)


def test_splits_are_made_by_name_and_an_empty_one_is_refused() -> None:
    none = Images((), blank)
    data = pets(
        splits={"test": lambda: pets(split_name="test"), "none": lambda: pets(images=none, texts=Texts((), ()))}
    )
    assert data.split("test").split_name == "test"
    with pytest.raises(XgapError, match="'pets' has no split 'val'; it has: test, none"):
        data.split("val")
    with pytest.raises(XgapError, match="split 'none' of data set 'pets' is empty"):
        data.split("none")


@pytest.mark.parametrize("n", [1, 2])
def test_limit_keeps_whole_labels_and_everything_about_them(n: int) -> None:
    data = pets(image_queries=("cat-0", "dog-0", "owl-0"))
    small = data.limit(n)
    kept = {small.labels["kind"][i] for i in small.images.ids}
    assert len(kept) == n
    assert small.images.ids == tuple(i for i in data.images.ids if i.split("-")[0] in kept)
    assert small.texts.ids == tuple(i for i in data.texts.ids if i.split("-")[0] in kept)
    assert small.image_queries == tuple(i for i in data.image_queries if i.split("-")[0] in kept)
    assert set(small.class_names["kind"]) == kept
    assert small.class_names["flies"] == data.class_names["flies"]
    assert set(small.labels["kind"]) == {*small.images.ids, *small.texts.ids}
    assert small.split_name == f"all[{n}]"
    assert data.limit(n).images.ids == small.images.ids
    assert kept <= {data.limit(n + 1).labels["kind"][i] for i in data.limit(n + 1).images.ids}


def test_a_limit_of_everything_changes_nothing() -> None:
    data = pets()
    for n in (3, 30):
        whole = data.limit(n)
        assert (whole.split_name, whole.images.ids, whole.labels) == ("all", tuple(data.images.ids), data.labels)


@pytest.mark.parametrize("n", [0, -1])
def test_a_limit_below_one_is_refused(n: int) -> None:
    with pytest.raises(XgapError, match=f"at least 1 label, not {n}"):
        pets().limit(n)


def judged(**changed: object) -> Dataset:
    """Three questions about the animals' captions and images, judged one by one."""
    grades = {"cat-0": {"cat-1": 2.0, "owl-1": 1.0}, "dog-0": {"dog-1": 1.0}, "owl-0": {"owl-1": 1.0}}
    loose, strict = Relevance.from_qrels(grades), Relevance.from_qrels({"cat-0": {"cat-1": 1.0}})
    asking = ("cat-0", "dog-0", "owl-0")
    return pets(**{"labels": {}, "judgements": {"loose": loose, "strict": strict}, "image_queries": asking, **changed})


def test_what_is_judged_item_by_item_comes_before_labels() -> None:
    data = judged(labels=pets().labels)
    assert data.default_level == "loose"
    assert data.relevance().bind(["cat-0"], ["cat-1", "dog-1", "owl-1"]).grades(0, 1).tolist() == [[2, 0, 1]]
    assert data.relevance("strict").bind(["cat-0"], ["cat-1", "owl-1"]).grades(0, 1).tolist() == [[1, 0]]
    assert data.relevance("kind").bind(["cat-0"], ["cat-1", "owl-1"]).grades(0, 1).tolist() == [[1, 0]]
    assert data.labels_of("loose") == {}
    with pytest.raises(XgapError, match="has no labels 'colour'; it has: loose, strict, kind, flies"):
        data.relevance("colour")


def test_a_limit_of_judged_queries_keeps_the_gallery_and_the_texts() -> None:
    data = judged()
    for n in (1, 2):
        small = data.limit(n)
        assert len(small.image_queries) == n
        assert small.gallery("image") == data.gallery("image")
        assert list(small.texts.ids) == data.texts.ids
        assert set(small.image_queries) <= set(data.limit(n + 1).image_queries)
        assert small.split_name == f"all[{n}]"
    assert data.limit(3).split_name == "all"
    with pytest.raises(XgapError, match="at least 1 label, not 0"):
        data.limit(0)


def test_class_texts_are_the_names_in_the_prompt() -> None:
    assert pets().words_of() == {kind: f"a photo of {kind}" for kind in ("cat", "dog", "owl")}
    assert pets(prompt="{} {}!").words_of("flies") == {"True": "flying flying!", "False": "walking walking!"}
    braces = pets(class_names={"kind": {"cat": "{0.__class__}"}}, prompt="a {}")
    assert braces.words_of() == {"cat": "a {0.__class__}"}  # a name is data, never a format
    with pytest.raises(XgapError, match="names no classes of level 'flies'"):
        pets(class_names={}).words_of("flies")


def test_splits_are_made_once_and_know_each_other() -> None:
    made: list[str] = []

    def make(name: str) -> Dataset:
        made.append(name)
        return pets(split_name=name)

    data = in_splits({name: partial(make, name) for name in ("test", "train")})
    assert (data.split_name, made) == ("test", ["test"])
    assert data.split("test") is data
    assert data.split("train").split("train") is data.split("train")
    assert data.split("train").split("test") is data
    assert made == ["test", "train"]


def test_there_is_no_image_in_a_data_set_of_texts() -> None:
    assert len(NO_IMAGES) == len(NO_TEXTS) == 0
    with pytest.raises(XgapError, match="there is no image 'x': this data set has texts alone"):
        NO_IMAGES.opener("x")


# Ids and labels of other types than text


def test_numbers_and_bytes_are_the_ids_that_they_spell() -> None:
    qrels = {np.int64(1): {10.0: 1, b"11": 2}, "2": {"11": 1}}
    relevance = Relevance.from_qrels(qrels, {1: [12, 13]})  # type: ignore[arg-type, dict-item]
    bound = relevance.bind(("1", "2"), ("10", "11", "12"))
    assert bound.grades(0, 2).tolist() == [[1, 2, 0], [0, 1, 0]]
    assert bound.ignored(0, 2).tolist() == [[False, False, True], [False, False, False]]
    labels = Relevance.from_labels({1: "a", 2: "b"}, {3: "b", 4: "a"})  # type: ignore[dict-item]
    assert labels.bind(("1", "2"), ("3", "4")).grades(0, 2).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ({1: {2: 1}, "1": {2: 0}}, "the query '1' is given twice, as text and as a number, with different values"),
        ({1: {2: 1, "2": 0}}, "the item '2' is given twice, as text and as a number, with different values"),
        ({1: [2, 3]}, "the judgements of query 1 are a list, not item to grade"),
        ({"q": {"d": None}}, "the judgement of item 'd' for query 'q' has no grade"),
        ({"q": {"d": float("nan")}}, "the judgement of item 'd' for query 'q' has no grade"),
        ({None: {"d": 1}}, "an id is a word or a number, and None stands for a missing one"),
    ],
)
def test_judgements_that_fit_two_readings_or_none(qrels: Any, said: str) -> None:
    with pytest.raises(XgapError, match=said):
        Relevance.from_qrels(qrels)


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_a_missing_label_is_no_class(missing: Any) -> None:
    relevance = Relevance.from_labels(["a", missing, missing], {"x": "a", "y": "b"})
    with pytest.raises(XgapError, match=r"2 of 3 query labels are missing .*, the first that of 'q'"):
        relevance.bind(("p", "q", "r"), ("x", "y"))


def test_items_without_a_label_are_relevant_to_nothing() -> None:
    texts = Texts(tuple("abcdef"), tuple("abcdef"))
    data = Dataset("d", "all", NO_IMAGES, texts, {"class": {"a": "x", "b": "x", "c": "y", "d": "y"}})
    grades = data.relevance().bind(texts.ids, texts.ids).grades(0, 6)
    assert grades[:4].tolist() == naive_labels(list("xxyy"), list("xxyyef")).tolist()
    assert not grades[4:].any()


def test_an_id_that_is_no_utf8_can_be_chosen_from() -> None:
    texts = Texts(("a", "\ud83d"), ("a", "b"))
    data = Dataset("d", "all", NO_IMAGES, texts, {"class": {"a": "x", "\ud83d": "\ud83d"}})
    assert len(data.limit(1).texts) == 1
