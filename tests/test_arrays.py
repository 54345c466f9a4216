"""Wherever features may stand, an array may stand: the same numbers, pairs by position, one sentence for a mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis import metrics
from xgap_analysis.core.arrays import matrix
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, as_modalities, side_by_side

N, D = 9, 5
LABELS = ["cat", "dog", "cow"] * 3
IDS = st.lists(st.text(min_size=1, max_size=8), min_size=N, max_size=N, unique=True)
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": np.asarray,
    "float32": lambda a: a.astype(np.float32).astype(np.float64),
    "big endian": lambda a: a.astype(">f8"),
    "torch": torch.as_tensor,
    "with a gradient": lambda a: torch.as_tensor(a).requires_grad_(),
    "lists": lambda a: a.tolist(),
    "a list of vectors": list,
    "a list of tensors": lambda a: list(torch.as_tensor(a)),
    "a data frame": lambda a: pd.DataFrame(a, index=list("ihgfedcba"[: len(a)])),
    "a column of lists": lambda a: pd.Series(list(a)),
    "an array of arrays": lambda a: pd.Series(a.tolist()).to_numpy(),
}


def rows(seed: int, n: int = N, d: int = D) -> np.ndarray:
    """Whole numbers, so that every type holds them, and some similarities are equal."""
    found = np.random.default_rng(seed).integers(-3, 4, size=(n, d)).astype(float)
    found[:, 0] += 4
    return found


def numbered(array: np.ndarray, items: str = "x", space: str = "vectors") -> Features:
    return Features(array, map(str, range(len(array))), space, space, items=items)


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, Features):
        assert torch.equal(found.vectors, expected.vectors)
    else:
        assert found == expected


def shifted(k: int) -> dict[str, list[str]]:
    """One judged item per query."""
    return {str(i): [str((i + k) % N)] for i in range(N)}


WITHIN: dict[str, Callable[[Any], Any]] = {
    "retrieval": lambda x: xg.retrieval(x, x, LABELS),
    "retrieval by id": lambda x: xg.retrieval(x, x, dict(enumerate(LABELS))),
    "graded": lambda x: xg.retrieval(x, x, {i: {(i + 1) % N: 2, (i + 2) % N: 1} for i in range(N)}),
    "misalignment": lambda x: xg.misalignment(x, x, LABELS),
    "pooled": lambda x: metrics.pooled_misalignment(x, x, LABELS),
    "histograms": lambda x: xg.similarity_histograms(x, x, LABELS, bins=9),
    "overlap": lambda x: metrics.similarity_overlap(x, x, LABELS, bins=9),
    "hubness": lambda x: xg.hubness(x, x, 3),
    "occurrence": lambda x: metrics.k_occurrence(x, x, 2),
    "nearest": lambda x: metrics.nearest_items(x, x, "4", LABELS, 3),
    "score": lambda x: xg.score(x, x),
    "uniformity": metrics.uniformity,
    "cone": metrics.cone,
    "effective rank": metrics.effective_rank,
}
BETWEEN: dict[str, Callable[[Any, Any], Any]] = {
    "retrieval": lambda x, y: xg.retrieval(x, y, (LABELS, LABELS)),
    "revisited": lambda x, y: metrics.revisited(x, y, *map(shifted, (1, 2, 3))),
    "zero-shot": lambda x, y: xg.zero_shot(x, y, [i % 4 for i in range(N)]),
    "filtered": lambda x, y: metrics.filtered_ids(x, y, [i % 2 for i in range(N)]),
    "misalignment": lambda x, y: xg.misalignment(x, y, (LABELS, LABELS)),
    "hubness": lambda x, y: xg.hubness(x, y, 3),
    "score": lambda x, y: xg.score(x, y),
    "gap vector": metrics.gap_vector,
    "gap": metrics.modality_gap,
    "rmg": metrics.relative_modality_gap,
    "separability": metrics.separability,
    "alignment": metrics.alignment,
    "cosine": metrics.cross_cosine,
    "variance": metrics.variance_along_gap,
    "report": xg.gap_report,
    "cka": metrics.linear_cka,
    "knn": lambda x, y: metrics.mutual_knn(x, y, 3),
    "spearman": metrics.similarity_spearman,
    "table": lambda x, y: metrics.structure_table({"x": x, "y": y}, k=3),
    "rotation": metrics.rotation,
    "deviation": lambda x, y: metrics.deviation(x, y, y, x),
    "fused": lambda x, y: xg.fuse(x, y, 0.3),
}
ALONE = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", WITHIN)
@ALONE
@given(seed=st.integers(0, 10_000), form=st.sampled_from(sorted(FORMS)))
def test_an_array_gives_what_its_features_give_within_a_set(name: str, seed: int, form: str) -> None:
    array = rows(seed)
    same(WITHIN[name](FORMS[form](array)), WITHIN[name](numbered(array)))


@pytest.mark.parametrize("name", BETWEEN)
@ALONE
@given(seed=st.integers(0, 10_000), form=st.sampled_from(sorted(FORMS)))
def test_arrays_give_what_their_features_give_between_two_sets(name: str, seed: int, form: str) -> None:
    a, b = rows(seed), rows(seed + 1)
    expected = BETWEEN[name](numbered(a), numbered(b, "y"))
    same(BETWEEN[name](FORMS[form](a), FORMS[form](b)), expected)
    same(BETWEEN[name](numbered(a), FORMS[form](b)), expected)  # one of them


@ALONE
@given(seed=st.integers(0, 10_000), ids=IDS, order=st.permutations(range(N)))
def test_neither_the_order_of_rows_nor_the_characters_of_ids_matter(
    seed: int, ids: list[str], order: list[int]
) -> None:
    x, y = (Features(rows(s), ids, space, space) for s, space in ((seed, "image"), (seed + 1, "text")))
    moved_x, moved_y = (f.select(ids[i] for i in order) for f in (x, y))
    reports = [xg.gap_report(*pair).drop(columns="separability") for pair in ((moved_x, moved_y), (x, y))]  # by folds
    pd.testing.assert_frame_equal(*reports, check_exact=False, atol=1e-5)
    label = dict(zip(ids, LABELS, strict=True))
    columns = ["misalignment", "n_same", "n_different"]
    found = xg.misalignment(moved_x, moved_x, label).loc[ids, columns]
    pd.testing.assert_frame_equal(found, xg.misalignment(x, x, label)[columns])
    by_position = xg.misalignment(rows(seed), rows(seed), LABELS)
    assert by_position["misalignment"].tolist() == found["misalignment"].tolist()
    assert np.array_equal(np.asarray(moved_x), np.asarray(x)[order])


def test_the_same_array_twice_or_a_copy_of_it_is_one_set_and_another_is_not() -> None:
    a = rows(0)
    once = xg.retrieval(a, a, LABELS)
    assert once["n_relevant"].tolist() == [2] * N  # not the query itself
    pd.testing.assert_frame_equal(xg.retrieval(a, a.copy(), LABELS), once)
    pd.testing.assert_frame_equal(xg.retrieval(a, torch.as_tensor(a).float(), LABELS), once)
    pd.testing.assert_frame_equal(xg.retrieval(a, 3 * a, LABELS), once)  # rows of the same directions
    assert xg.retrieval(a, rows(1), (LABELS, LABELS))["n_relevant"].tolist() == [3] * N
    assert xg.retrieval(a, a[:6], (LABELS, LABELS[:6]))["n_relevant"].tolist() == [2] * N
    assert xg.as_features(a).has_items_of(xg.as_features(a.tolist()))
    assert not xg.as_features(a).has_items_of(xg.as_features(a[::-1].copy()))


def test_features_are_passed_as_they_are_and_an_array_gets_its_positions() -> None:
    x = Features(rows(0), list("abcdefghi"), "image", "image")
    assert xg.as_features(x) is x
    made = xg.as_features(rows(0), space="text", origin="image")
    assert (made.ids, made.space, made.origin) == (tuple(map(str, range(N))), "text", "image")
    assert made.numbered
    assert torch.equal(made.vectors, x.vectors)


def test_arrays_of_other_lengths_have_no_pairs_and_say_so() -> None:
    a, b = rows(0), rows(1, 7)
    with pytest.warns(UserWarning, match="'row 0 of 9'.*'row 0 of 7'.*rmg, alignment and cross_cosine are NaN"):
        report = xg.gap_report(a, b)
    assert report["n"].item() == 0
    assert report["modality_gap"].item() == pytest.approx(metrics.modality_gap(a, b))
    for function in (metrics.alignment, metrics.relative_modality_gap, xg.fuse):
        with pytest.raises(XgapError, match="row 0 of"):
            function(a, b)
    named = Features(a, list("abcdefghi"), "image", "image")
    with pytest.raises(XgapError, match="no id of x"):  # lengths alone make no pairs for Features
        metrics.alignment(named, rows(1))
    x, y = side_by_side(numbered(a[:7], "z"), b)
    assert x.ids == y.ids


def test_labels_are_a_list_a_pair_a_mapping_or_relevance() -> None:
    a, b, numbers = rows(0), rows(1), np.arange(N) % 3
    once = xg.retrieval(a, a, LABELS)["ap"].tolist()
    for labels in (
        tuple(LABELS),
        (LABELS, LABELS),
        [np.array(LABELS), pd.Series(LABELS, index=range(5, 5 + N))],
        numbers,
        torch.as_tensor(numbers),
        pd.Series(numbers),
        {str(i): label for i, label in enumerate(LABELS)},
        (dict(enumerate(LABELS)), LABELS),
        xg.Relevance.from_labels(LABELS, LABELS),
    ):
        assert xg.retrieval(a, a, labels)["ap"].tolist() == once
    x = Features(a, list("abcdefghi"), "image", "image")
    inverted = Features(b, list("abcdefghi"), "text", "image")
    assert xg.retrieval(inverted, x, LABELS)["n_relevant"].tolist() == [2] * N  # the same items, in another space


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS, "one list of labels is for a query and a gallery of the same items, and these are 9 and 7 others"),
        (dict(enumerate(LABELS)), "row 5 of the query and row 5 of the gallery are two items"),
        ("labels.csv", "relevance is a Relevance, a Dataset, a mapping"),
        (np.eye(3), "relevance is a Relevance, a Dataset, a mapping"),
        ((LABELS, LABELS), "9 gallery labels were given for 7 gallery vectors"),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(labels: Any, said: str) -> None:
    with pytest.raises(XgapError, match=said):
        xg.retrieval(rows(0), rows(1, 7), labels)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(3), r"must be a matrix \[n, d\], not of shape \(3,\)"),
        (np.zeros((2, 3, 4)), r"must be a matrix \[n, d\], not of shape \(2, 3, 4\)"),
        (torch.zeros(()), r"must be a matrix \[n, d\], not of shape \(\)"),
        ([], r"must be a matrix \[n, d\], not of shape \(0,\)"),
        ([[1, 2], [3]], "rows of vectors must be of one length: row 0 has 2 numbers, and row 1 has 1"),
        ([torch.ones(2), torch.ones(3)], "row 0 has 2 numbers, and row 1 has 3"),
        (pd.Series([[1.0, 2.0], [3.0]]), "row 0 has 2 numbers, and row 1 has 1"),
        ([[1, 2], 3], "with rows of one length"),
        ("features.npy", "not the text 'features.npy'; load_features reads the vectors of a file"),
        (["a cat", "a dog"], "not values of type str"),
        ([["a", "b"], ["c", "d"]], "not values of type str"),
        (pd.DataFrame({"x": [1.0], "name": ["a"]}), "the column 'name' holds others; leave it out"),
        (np.ones((2, 2)) * 1j, "not values of type complex128"),
        (torch.ones(2, 2) * 1j, "must be real numbers, not of type torch.complex64"),
        (np.array([[True, False]]), "not values of type bool"),
        ({"a": [1, 2]}, "of numbers, not dict"),
        (None, "of numbers, not NoneType"),
        ([[1.0, None]], "not values of type float|not values of type NoneType"),
        ([[1.0, float("nan")]], "the vector of item '0' holds a NaN"),
        ([[1.0, 2.0], [0.0, 0.0]], "the vector of item '1' is zero"),
    ],
)
def test_what_is_no_array_of_vectors_is_one_sentence(array: Any, said: str) -> None:
    with pytest.raises(XgapError, match=said):
        xg.as_features(array)
    with pytest.raises(XgapError, match=said):
        xg.score(array, array)


def test_the_message_names_what_was_read() -> None:
    with pytest.raises(XgapError, match="rows of weights must be of one length"):
        matrix([[1, 2], [3]], "weights")


def test_features_are_read_as_arrays() -> None:
    x = Features(rows(0), list("abcdefghi"), "image", "image")
    assert np.asarray(x).dtype == np.float32
    assert np.array_equal(np.asarray(x), x.vectors.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    copied = np.array(x)
    copied[:] = 0
    assert x.vectors.any()
    assert torch.equal(torch.as_tensor(x), x.vectors)
    frame = x.to_frame()
    assert (list(frame.index), frame.shape, frame.index.name) == (list("abcdefghi"), (N, D), "id")
    assert torch.equal(xg.as_features(frame).vectors, x.vectors)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # before, no copy was a wish
        with pytest.raises(ValueError, match="a copy was not allowed"):
            np.array(x, dtype=np.float64, copy=False)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".safetensors"])
@pytest.mark.parametrize("form", FORMS)
def test_an_array_goes_to_a_file_and_back(suffix: str, form: str, tmp_path: Path) -> None:
    array = rows(3)
    loaded = xg.load_features(
        xg.save_features(FORMS[form](array), tmp_path / f"a{suffix}", space="audio"), space="audio"
    )
    assert torch.equal(loaded.vectors, xg.as_features(array).vectors)
    assert (loaded.ids, loaded.space, loaded.numbered) == (tuple(map(str, range(N))), "audio", True)
    if suffix != ".npy":
        assert loaded.has_items_of(xg.as_features(array, "audio"))
    given_twice = xg.retrieval(loaded, loaded, LABELS)["ap"]
    assert given_twice.tolist() == xg.retrieval(array, array, LABELS)["ap"].tolist()


def test_a_file_of_vectors_alone_says_what_it_leaves_out(tmp_path: Path) -> None:
    named = Features(rows(0), list("abcdefghi"), "image", "image", {"model": "tiny"})
    with pytest.warns(UserWarning, match="keeps the vectors alone, without ids and provenance"):
        path = xg.save_features(named, tmp_path / "a.npy")
    assert np.array_equal(np.load(path), np.asarray(named))
    with pytest.raises(XgapError, match="lie in the space 'image' already"):
        xg.save_features(named, tmp_path / "a.npz", space="text")


def test_a_study_of_arrays_compares_every_pair_of_them() -> None:
    arrays = {"image": rows(0), "text": rows(1), "audio": rows(2)}
    table = xg.main_rows(xg.study_of_features(arrays, LABELS, corrections=["none", "center"]).run())
    names = {"I": "image", "T": "text", "audio": "audio"}
    assert set(table["comparison"]) == {f"{a}-{b}" for a in names for b in names}
    for row in table[table["correction"] == "none"].itertuples():
        query, gallery = (arrays[names[part]] for part in row.comparison.split("-"))
        assert row.value == pytest.approx(xg.retrieval(query, gallery, (LABELS, LABELS))["ap"].mean())
    unnamed = xg.study_of_features([rows(0), rows(1)], np.array(LABELS), calibration=[rows(5), rows(6)])
    assert set(xg.main_rows(unnamed.run())["comparison"]) == {"a-a", "a-b", "b-a", "b-b"}


def test_sets_of_a_study_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(XgapError, match="3 labels were given for 9 rows"):
        xg.study_of_features([rows(0), rows(1)], LABELS[:3])
    with pytest.raises(XgapError, match="one list of labels is for features of the same items"):
        xg.study_of_features([rows(0), rows(1, 7)], LABELS)
    with pytest.raises(XgapError, match="rows without ids are paired by their number"):
        xg.study_of_features([rows(0), rows(1, 7)])
    with pytest.raises(XgapError, match="are a list, or a mapping from their names"):
        as_modalities("images.npy")
    with pytest.raises(XgapError, match="labels are a mapping from id to label"):
        xg.study_of_features([rows(0), rows(1)], "labels.csv")


def test_calibration_rows_are_not_taken_for_the_rows_that_are_evaluated() -> None:
    evaluated, fitted = as_modalities([rows(0)]), as_modalities([rows(1)], of="calibration")
    assert set(evaluated[0].ids).isdisjoint(fitted[0].ids)
    assert evaluated[0].space == fitted[0].space == "a"
