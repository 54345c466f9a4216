"""Seeds that people give."""

from collections.abc import Callable

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.seeds import check_seeds, generator
from xgap_analysis.experiments.recipes import Ablation
from xgap_analysis.metrics import flips, pair_scores

X = np.random.default_rng(0).normal(size=(12, 4))
VALUES = X[:, 0]
LABELS = list("abc") * 4
TAKEN: dict[str, Callable[[int], object]] = {
    "bootstrap_interval": lambda seed: xg.bootstrap_interval(VALUES, seed=seed),
    "paired_test": lambda seed: xg.paired_test(VALUES, X[:, 1], seed=seed),
    "ratio_interval": lambda seed: xg.metrics.ratio_interval(abs(VALUES), abs(VALUES), seed=seed),
    "correlation": lambda seed: pair_scores.correlation(VALUES, X[:, 1], seed=seed),
    "flips": lambda seed: flips(X, X, seed=seed),
    "calibrated": lambda seed: xg.metrics.calibrated(X, X, seed=seed, permutations=5),
    "principal_angles": lambda seed: xg.metrics.principal_angles(X, X, rank=2, seed=seed),
    "clusters": lambda seed: xg.metrics.clusters({"image": X, "text": X}, LABELS, seeds=[seed]),
    "gap table": lambda seed: xg.metrics.gap_table({"image": X, "text": X}, LABELS, seed=seed),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_no_seed_is_said_in_one_sentence(name: str) -> None:
    with pytest.raises(XgapError, match="a seed is a whole number of 0 or more, not -1"):
        TAKEN[name](-1)


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", None, True])
def test_no_other_thing_is_a_seed(wrong: object) -> None:
    with pytest.raises(XgapError, match="whole number of 0 or more"):
        generator(wrong)


def test_a_generator_is_numpys_of_the_same_seed() -> None:
    assert generator(3).normal() == np.random.default_rng(3).normal()
    assert generator(np.int64(3), 1).normal() == np.random.default_rng([3, 1]).normal()


def test_one_run_does_not_count_as_two() -> None:
    check_seeds((0, 1, 2))
    with pytest.raises(XgapError, match="seed 0 stands twice"):
        check_seeds((0, 1, 0))
    with pytest.raises(XgapError, match="seed 42 stands twice"):
        xg.Study(["tiny"], ["emoji"], ["I-I"], seeds=(42, 42))
    with pytest.raises(XgapError, match="seed 0 stands twice"):
        Ablation({"CLIP": {}}, "CLIP", seeds=(0, 0))
