"""How often a verdict is given where there is nothing: the type-I error of intervals, tests and both, by simulation.

    python -m benchmarks.type_one      # about twenty minutes on one core; writes data/statistics/type_one.csv

Every test that a table prints has its rows, by what is tested (`tested`):

- `difference`: paired differences with true mean zero, whose queries lie in groups (`metrics.paired_test`).
- `correlation`: two scores of pairs that agree equally well with people's (`metrics.pair_scores.correlation_test`).
- `best`: of five equal variants, whether any is called lower than the best (`metrics.against_best`), in `both`.
- `seeds`: changes with mean zero, one a training seed (`metrics.seed_interval`); `n_groups` is the number of seeds.

A false finding is an interval that excludes zero (`interval`), a p-value below 0.05 (`test`), and both (`both`), which
is what a verdict needs beside enough groups. `naive` is the same test with each query (or pair) as a group of its own,
on the first `NAIVE_DRAWS` of the draws. `metrics.verdicts.ENOUGH_GROUPS` follows from this table.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from tqdm.auto import tqdm

from xgap_analysis.metrics import against_best, paired_test, seed_interval
from xgap_analysis.metrics.best import LOWER
from xgap_analysis.metrics.pair_scores import correlation_test
from xgap_analysis.metrics.verdicts import LEVEL

OUT = Path(__file__).parent.parent / "data" / "statistics" / "type_one.csv"
GROUPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 30, 50, 100)
PAIR_GROUPS, BEST_GROUPS, SEEDS = (6, 15, 30, 100), (15, 30, 100), (2, 3, 5, 10)
VARIANTS = 5
DRAWS, RESAMPLES = 5000, 2000
NAIVE_DRAWS, FEWER = 1000, 500  # of the naive test and of correlations, whose resamples are fewer too


def equal(rng: Generator, n: int) -> np.ndarray:
    """Five queries in every group."""
    return np.full(n, 5)


def unequal(rng: Generator, n: int) -> np.ndarray:
    """Sizes over two orders of magnitude, as classes of published sets have them."""
    return 1 + np.floor(np.exp(rng.normal(1.0, 1.2, n))).astype(int)


def normal(rng: Generator, of: np.ndarray, n: int) -> np.ndarray:
    """Differences that share a part within their group."""
    return rng.normal(size=n)[of] + rng.normal(size=len(of))


def sparse(rng: Generator, of: np.ndarray, n: int) -> np.ndarray:
    """Differences of top-1 accuracy: most are zero, few are one up or down, alike within a group."""
    share = rng.normal(size=n)[of] + rng.normal(size=len(of))
    return np.sign(share) * (np.abs(share) > 1.6)


def skewed(rng: Generator, of: np.ndarray, n: int) -> np.ndarray:
    """Mean zero, but not symmetric: many small losses and few large gains, which no sign-flip test allows for."""
    return rng.exponential(size=n)[of] + rng.exponential(size=len(of)) - 2


SIZES: dict[str, Callable[[Generator, int], np.ndarray]] = {"equal": equal, "unequal": unequal}
NULLS: dict[str, Callable[[Generator, np.ndarray, int], np.ndarray]] = {
    "normal": normal,
    "sparse": sparse,
    "skewed": skewed,
}


def false_findings(null: str, sizes: str, n_groups: int, draws: int, resamples: int = RESAMPLES) -> dict[str, float]:
    """Shares of `draws` in which interval, test, both, and the naive test find a difference that is not there."""
    rng = np.random.default_rng([list(NULLS).index(null), list(SIZES).index(sizes), n_groups])
    found = np.zeros((draws, 2), bool)
    naive = np.zeros(min(draws, NAIVE_DRAWS), bool)
    for k in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
        d = NULLS[null](rng, of, n_groups)
        seed = int(rng.integers(2**31))
        zeros = np.zeros(len(d))
        test = paired_test(zeros, d, groups=of, resamples=resamples, seed=seed)
        found[k] = test.low > 0 or test.high < 0, test.p_value < LEVEL
        if k < len(naive):
            naive[k] = paired_test(zeros, d, resamples=FEWER, seed=seed).p_value < LEVEL
    return _shares(found, naive)


def false_correlations(sizes: str, n_groups: int, draws: int, resamples: int = FEWER) -> dict[str, float]:
    """The same of the difference of two Spearman correlations with people's scores, which are equal in truth."""
    rng = np.random.default_rng([len(NULLS), list(SIZES).index(sizes), n_groups])
    found = np.zeros((draws, 2), bool)
    naive = np.zeros(min(draws, NAIVE_DRAWS), bool)
    for k in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
        people = normal(rng, of, n_groups)
        a, b = (people + normal(rng, of, n_groups) for _ in range(2))
        seed = int(rng.integers(2**31))
        test = correlation_test(a, b, people, groups=of, resamples=resamples, flips=resamples, seed=seed)
        found[k] = test.low > 0 or test.high < 0, test.p_value < LEVEL
        if k < len(naive):
            naive[k] = correlation_test(a, b, people, resamples=1, flips=resamples, seed=seed).p_value < LEVEL
    return _shares(found, naive)


def false_losers(sizes: str, n_groups: int, draws: int, resamples: int = FEWER) -> dict[str, float]:
    """Share of draws in which any of several equal variants is called lower than the one that came out best."""
    rng = np.random.default_rng([len(NULLS) + 2, list(SIZES).index(sizes), n_groups])
    found, naive = np.zeros(draws, bool), np.zeros(min(draws, NAIVE_DRAWS), bool)
    for k in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
        variants = {f"{j}": normal(rng, of, n_groups) for j in range(VARIANTS)}
        found[k] = LOWER in against_best(variants, of, resamples).values()
        if k < len(naive):
            naive[k] = LOWER in against_best(variants, resamples=resamples).values()
    both = found.mean()
    return {"both": both, "both_error": math.sqrt(both * (1 - both) / draws), "naive": naive.mean()}


def false_seeds(n: int, draws: int) -> dict[str, float]:
    """Share of draws in which the interval over n training seeds excludes zero; there is no other test of them."""
    values = np.random.default_rng([len(NULLS) + 1, n]).normal(size=(draws, n))
    found = np.array([low > 0 or high < 0 for _, low, high in map(seed_interval, values)])
    return {"interval": found.mean()}


def _shares(found: np.ndarray, naive: np.ndarray) -> dict[str, float]:
    both = found.all(axis=1).mean()
    return {
        "interval": found[:, 0].mean(),
        "test": found[:, 1].mean(),
        "both": both,
        "both_error": math.sqrt(both * (1 - both) / len(found)),
        "naive": naive.mean(),
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    n_draws = args.draws
    cells = [
        *(("difference", null, sizes, n) for null in NULLS for sizes in SIZES for n in GROUPS),
        *(("correlation", "normal", sizes, n) for sizes in SIZES for n in PAIR_GROUPS),
        *(("best", "normal", sizes, n) for sizes in SIZES for n in BEST_GROUPS),
        *(("seeds", "normal", "equal", n) for n in SEEDS),
    ]
    rows = []
    for tested, null, sizes, n in tqdm(cells, unit="cell"):
        about = {"tested": tested, "null": null, "sizes": sizes, "n_groups": n, "draws": n_draws}
        if tested == "difference":
            shares = false_findings(null, sizes, n, n_draws)
        elif tested == "correlation":
            shares = false_correlations(sizes, n, n_draws)
        elif tested == "best":
            shares = false_losers(sizes, n, n_draws)
        else:
            shares = false_seeds(n, n_draws)
        rows.append({**about, **shares})
    pd.DataFrame(rows).round(4).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
