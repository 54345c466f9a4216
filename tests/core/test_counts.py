"""What is not a count, a seed, a store or a model is one sentence, wherever it is given."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.counts import check_count, check_cutoffs
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.blocks import check_pair


def test_whole_numbers_from_the_least_are_counts() -> None:
    for count in (1, 7, np.int64(3)):
        check_count(count, "a number")
    check_count(0, "a number", 0)
    for wrong in (0, -1, 1.0, 2.5, True, "3", None, float("nan")):
        with pytest.raises(XgapError, match=f"a number is a whole number of 1 or more, not {wrong!r}"):
            check_count(wrong, "a number")


def study(**changed: Any) -> xg.Study:
    """A study with something else than it takes."""
    return xg.Study(**{"models": ["tiny"], "datasets": ["emoji"], "comparisons": ["OTI-I"], **changed})


WRONG: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda m, f: xg.invert(m, f, seed=-1), "a seed is a whole number of 0 or more, not -1"),
    (lambda m, f: xg.invert(m, f, seed=1.5), "a seed is a whole number"),
    (lambda m, f: xg.view("oti", seed=-1)(m, ["a"]), "a seed is a whole number|inverted"),
    (lambda m, f: xg.invert(m, f, steps=2.5), r"the number of steps is a whole number of 1 or more, not 2\.5"),
    (lambda m, f: xg.invert(m, f, tokens=1.5), "the number of pseudo-tokens is a whole number"),
    (lambda m, f: xg.invert(m, f, snapshots=["a"]), "a snapshot is a whole number of 0 or more, not 'a'"),
    (lambda m, f: xg.invert(m, f, snapshots=2), r"snapshots are a list of steps, such as \[50, 100\], not 2"),
    (lambda m, f: xg.invert(m, f, snapshots="12"), "snapshots are a list of steps"),
    (lambda m, f: xg.invert(m, f, start=np.ones(2)), 'start is "normal" or "closed-form"'),
    (lambda m, f: xg.invert(m, f, lr=True), "lr is a number of 0 or more, not True"),
    (lambda m, f: xg.invert(m, TokenFeatures.from_features(f)), "what is inverted are Features .* not TokenFeatures"),
    (lambda m, f: xg.invert(m, f, lr=-1.0), r"lr is a number of 0 or more, not -1\.0"),
    (lambda m, f: xg.invert(m, f, init_std=float("nan")), "init_std is a number of 0 or more, not nan"),
    (lambda m, f: xg.invert(m, np.asarray(f)), "what is inverted are Features of a space.* not ndarray"),
    (lambda m, f: xg.invert("tiny", f), r"a model is loaded first, as by xg\.load_model\('tiny'\)"),
    (lambda m, f: xg.encode("tiny", ["a cat"]), r"a model is loaded first, as by xg\.load_model\('tiny'\)"),
    (lambda m, f: xg.encode(m, ["a cat"], store=Path("here")), "store is a Store"),
    (lambda m, f: xg.encode(m, ["a cat"], engine=None), "an engine is one of local, ranks, ray"),
    (lambda m, f: xg.load_dataset("emoji").split("val").limit(1.5), "limit, a number of labels, is a whole number"),
    (lambda m, f: study(limit=0), "limit, a number of labels, is a whole number of 1 or more, not 0"),
    (lambda m, f: study(limit=2.5), "limit, a number of labels, is a whole number"),
    (lambda m, f: study(seeds=[-1]), "a seed is a whole number of 0 or more, not -1"),
    (lambda m, f: study(seeds=["a"]), "a seed is a whole number of 0 or more, not 'a'"),
    (lambda m, f: study(seeds=3), r"seeds of a study is a list; write \[3\]"),
    (lambda m, f: study(models=m), "models of a study is a list"),
    (lambda m, f: xg.Recipe(seed=-1), "a seed is a whole number of 0 or more, not -1"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_wrong_number_or_object_is_one_sentence(call: Callable[[Any, Any], Any], message: str, model: Any) -> None:
    features = xg.encode(model, ["a cat", "a dog"], store=None, progress=False)
    with pytest.raises(XgapError, match=message) as raised:
        call(model, features)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_those_of_python(model: Any, tmp_path: Path) -> None:
    """Kept under one key, and found again."""
    how: dict[str, Any] = {"store": xg.Store(tmp_path), "progress": False}
    features = xg.encode(model, ["a cat", "a dog"], **how)
    made = xg.invert(model, features, steps=2, tokens=1, seed=3, **how)
    reading = {**how, "store": xg.Store(tmp_path).reading()}
    again = xg.invert(model, features, steps=np.int64(2), tokens=np.int32(1), seed=np.int64(3), **reading)  # type: ignore[arg-type]
    assert again.provenance == made.provenance
    assert again.features.vectors.equal(made.features.vectors)


# A session of tests checks the types of arguments before a function sees them; a user's session does not.
UNCHECKED: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (xg.metrics.clusters, ({}, []), {"seeds": 3}, r"seeds are a list, such as \[0, 1, 2\], not 3"),
    (xg.metrics.k_occurrence, (np.eye(3), np.eye(3), 1.5), {}, r"k, a number of neighbours, is a whole .* not 1\.5"),
    (xg.metrics.mutual_knn, (np.eye(3), np.eye(3), "1"), {}, "k, a number of neighbours, is a whole number of 1"),
    (xg.metrics.nearest_items, (np.eye(3), np.eye(3), "0", [0, 0, 1], True), {}, "k, a number of neighbours, is a"),
    (xg.similarity_histograms, (np.eye(3), np.eye(3), [0, 0, 1]), {"bins": 2.5}, "bins, the number of them, is a"),
    (
        check_pair,
        (xg.as_features(np.eye(3)),) * 2,
        {"block": 2.5},
        "block, a number of queries, is a whole number of 1",
    ),
    (check_cutoffs, (5,), {}, r"the cut-offs ks are a list, such as \[1, 5, 10\], not 5"),
    (check_cutoffs, ([1, 2.5],), {}, r"a cut-off of ks is a whole number of 1 or more, not 2\.5"),
]


@pytest.mark.parametrize(("function", "given", "options", "message"), UNCHECKED)
def test_a_wrong_number_is_one_sentence_where_no_types_are_checked(
    function: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(XgapError, match=message):
        inspect.unwrap(function)(*given, **options)
