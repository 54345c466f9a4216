"""Which items are relevant to which, against plain loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8)
NAMES = st.lists(st.sampled_from([f"item-{i}" for i in range(12)]), min_size=1, max_size=8, unique=True)


def naive_labels(query: list[str], gallery: list[str]) -> torch.Tensor:
    return torch.tensor([[float(q == g) for g in gallery] for q in query])


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
        ({1: [2, 3]}, "the grades of query 1 are a list, not item to grade"),
        ({"q": {"d": None}}, "item 'd' has no grade for query 'q'"),
        ({"q": {"d": float("nan")}}, "item 'd' has no grade for query 'q'"),
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


@pytest.mark.parametrize("one_set", [False, True])
def test_pairs_are_the_relevant_items_of_each_query(one_set: bool) -> None:
    labels = {"a": 1, "b": 1, "c": 2, "d": 3}
    found = Relevance.from_labels(labels, labels).pairs("abcd", "dbca", one_set)
    expected = {q: {i for i in "dbca" if labels[i] == labels[q] and not (one_set and i == q)} for q in "abcd"}
    assert {q: set(of) for q, of in found.items()} == {q: of for q, of in expected.items() if of}
    graded = Relevance.from_qrels({"a": {"b": 2, "c": 0, "x": 1}})
    assert graded.pairs("ab", "bc", one_set) == {"a": ("b",)}
