"""How often a verdict is given where there is nothing: the type-I error of intervals, tests and both, by simulation.

    python -m benchmarks.type_one      # about fifteen minutes on one core; writes data/statistics/type_one.csv

Every test that a table prints has its rows, by what is tested (`tested`):

- `difference`: paired differences with true mean zero, whose queries lie in groups (`metrics.paired_test`).
- `correlation`: two scores of pairs that agree equally well with people's (`metrics.pair_scores.correlation_test`).
- `best`: of five equal variants, whether any is called lower than the best (`metrics.against_best`).
- `seeds`: changes with mean zero, one a training seed (`metrics.seed_interval`); `n_groups` is the number of seeds.

A false finding is an interval that excludes zero (`interval`), a p-value below 0.05 (`test`), both (`both`), and both
in a draw that has enough groups (`verdict`, with its standard error; `enough` is the share of such draws). `naive` is
the test with each query (or pair) as a group of its own, on the first `NAIVE_DRAWS` of the draws.
`metrics.verdicts.ENOUGH_GROUPS` follows from this table.

`results_together` computes what `paired_test` does for many sets of data at a time, which share their random draws of
groups; `tests/metrics/test_verdicts.py` compares the two.
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
from xgap_analysis.metrics.verdicts import ENOUGH_GROUPS, LEVEL

OUT = Path(__file__).parent.parent / "data" / "statistics" / "type_one.csv"
GROUPS = (6, 10, 15, 20, 30, 50, 100)
PAIR_GROUPS, BEST_GROUPS, SEEDS = (6, 15, 30, 100), (15, 30, 100), (2, 3, 5, 10)
VARIANTS = 5
TESTED = ("difference", "correlation", "best", "seeds")
DRAWS, RESAMPLES = 5000, 1000
NAIVE_DRAWS, FEWER = 1000, 500  # of the naive test and of correlations, whose resamples are fewer too
STREAMS = ("normal", "sparse", "skewed", "correlation", "seeds", "best", "bounded")  # of random numbers, by place
TOGETHER = 100  # sets of data that share the random draws of groups


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


def bounded(rng: Generator, of: np.ndarray, n: int) -> np.ndarray:
    """Differences of average precision, in [-1, 1]: one in five gains 0.375, the others lose 0.094, on average."""

    def part(size: int) -> np.ndarray:
        gains = rng.random(size) < 0.2
        return np.where(gains, rng.beta(1.5, 2.5, size), -rng.beta(1.5, 14.5, size))

    return (part(n)[of] + part(len(of))) / 2 - (0.2 * 0.375 - 0.8 * 0.09375)


SIZES: dict[str, Callable[[Generator, int], np.ndarray]] = {"equal": equal, "unequal": unequal}
NULLS: dict[str, Callable[[Generator, np.ndarray, int], np.ndarray]] = {
    "normal": normal,
    "sparse": sparse,
    "skewed": skewed,
    "bounded": bounded,
}


def results_together(
    total: np.ndarray, count: np.ndarray, resamples: int, rng: Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper limits and p-values of `paired_test` for totals and sizes of groups of many sets, `[s, k]`."""
    k, n = total.shape[1], count.sum(axis=1, keepdims=True)
    mean = total.sum(axis=1, keepdims=True) / n
    off = total - count * mean
    flipped = np.abs(total @ rng.choice([-1.0, 1.0], size=(k, resamples)))
    reached = np.abs(total.sum(axis=1, keepdims=True)) - 1e-12 * np.abs(total).sum(axis=1, keepdims=True)
    flips = (1 + (flipped >= reached).sum(axis=1)) / (1 + resamples)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=2 * resamples + 1).T.astype(float)
    sizes, moved = count @ weights, off @ weights
    drawn = moved / sizes  # less the mean
    low, high = np.quantile(mean + drawn, [LEVEL / 2, 1 - LEVEL / 2], axis=1)
    if k == 1:
        return low, high, np.ones(len(total))
    square = off**2 @ weights - 2 * drawn * ((off * count) @ weights) + drawn**2 * (count**2 @ weights)
    error = np.sqrt(np.maximum(square, 0)) / sizes
    share = count / n
    own = np.sqrt((off**2 / (1 - share) ** np.minimum(4, k * share)).sum(axis=1, keepdims=True)) / n
    error[error <= 3e-5 * np.abs(drawn)] = 0
    none = np.abs(drawn) <= 1e-9 * np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(none, 0.0, drawn / error)
        found = np.where(own > 1e-9 * np.abs(mean), mean / own, np.copysign(np.inf, mean))
    slack = np.where(np.isfinite(found), 1e-9 * np.abs(found), 0.0)
    tails = [(t >= found - slack).sum(axis=1), (t <= found + slack).sum(axis=1)]
    beyond = (np.abs(t) >= np.abs(found) - slack).sum(axis=1)
    draws = 2 * resamples + 2
    studentised = np.minimum(1, np.maximum(2 * (1 + np.minimum(*tails)) / draws, (1 + beyond) / draws))
    return low, high, np.where(mean[:, 0] == 0, 1.0, np.maximum(flips, studentised))


def false_findings(null: str, sizes: str, n_groups: int, draws: int, resamples: int = RESAMPLES) -> dict[str, float]:
    """Shares of `draws` in which interval, test, both, and the naive test find a difference that is not there."""
    rng = _rng(null, sizes, n_groups)
    found, naive, counts = [], [], []
    for start in range(0, draws, TOGETHER):
        together = min(TOGETHER, draws - start)
        total, count = np.empty((together, n_groups)), np.empty((together, n_groups))
        for k in range(together):
            of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
            d = NULLS[null](rng, of, n_groups)
            total[k], count[k] = np.bincount(of, weights=d), np.bincount(of)
            if start + k < NAIVE_DRAWS:
                naive.append(_naive(d, int(rng.integers(2**31))))
        low, high, p = results_together(total, count, resamples, rng)
        found.append(np.stack([(low > 0) | (high < 0), p < LEVEL], axis=1))
        counts.append(count)
    return _shares(np.concatenate(found), np.array(naive), np.concatenate(counts))


def _rng(stream: str, sizes: str, n_groups: int) -> Generator:
    return np.random.default_rng([STREAMS.index(stream), list(SIZES).index(sizes), n_groups])


def _naive(d: np.ndarray, seed: int) -> bool:
    return paired_test(np.zeros(len(d)), d, resamples=200, seed=seed).p_value < LEVEL


def false_correlations(sizes: str, n_groups: int, draws: int, resamples: int = FEWER) -> dict[str, float]:
    """The same of the difference of two Spearman correlations with people's scores, which are equal in truth."""
    rng = _rng("correlation", sizes, n_groups)
    found = np.zeros((draws, 2), bool)
    naive, counts = np.zeros(min(draws, NAIVE_DRAWS), bool), np.zeros((draws, n_groups))
    for k in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
        counts[k] = np.bincount(of)
        people = normal(rng, of, n_groups)
        a, b = (people + normal(rng, of, n_groups) for _ in range(2))
        seed = int(rng.integers(2**31))
        test = correlation_test(a, b, people, groups=of, resamples=resamples, flips=resamples, seed=seed)
        found[k] = test.low > 0 or test.high < 0, test.p_value < LEVEL
        if k < len(naive):
            naive[k] = correlation_test(a, b, people, resamples=1, flips=resamples, seed=seed).p_value < LEVEL
    return _shares(found, naive, counts)


def false_losers(sizes: str, n_groups: int, draws: int, resamples: int = FEWER) -> dict[str, float]:
    """Share of draws in which any of several equal variants is called lower than the one that came out best."""
    rng = _rng("best", sizes, n_groups)
    both, naive, counts = np.zeros(draws, bool), [], np.zeros((draws, n_groups))
    pairs = VARIANTS * (VARIANTS - 1) / 2
    for k in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
        variants = np.stack([normal(rng, of, n_groups) for _ in range(VARIANTS)])
        counts[k] = np.bincount(of)
        totals = np.stack([np.bincount(of, weights=own) for own in variants])
        best = totals.sum(axis=1).argmax()
        below = np.delete(totals, best, axis=0) - totals[best]
        _, high, p = results_together(below, np.tile(counts[k], (len(below), 1)), resamples, rng)
        both[k] = ((high < 0) & (pairs * p < LEVEL)).any()
        if k < NAIVE_DRAWS:
            named = {f"{j}": own for j, own in enumerate(variants)}
            naive.append(LOWER in against_best(named, resamples=resamples).values())
    return _shares(both[:, None], np.array(naive), counts)


def false_seeds(n: int, draws: int) -> dict[str, float]:
    """Share of draws in which the interval over n training seeds excludes zero; there is no other test of them."""
    values = np.random.default_rng([STREAMS.index("seeds"), n]).normal(size=(draws, n))
    found = np.array([low > 0 or high < 0 for _, low, high in map(seed_interval, values)])
    return {"interval": found.mean()}


def _shares(found: np.ndarray, naive: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    both = found.all(axis=1)
    enough = counts.sum(axis=1) ** 2 / (counts**2).sum(axis=1) >= ENOUGH_GROUPS
    verdict = (both & enough).mean()
    single = {"interval": found[:, 0].mean(), "test": found[:, 1].mean()} if found.shape[1] > 1 else {}
    return {
        **single,
        "both": both.mean(),
        "enough": enough.mean(),
        "verdict": verdict,
        "verdict_error": math.sqrt(verdict * (1 - verdict) / len(found)),
        "naive": naive.mean(),
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--tested", nargs="+", choices=TESTED, default=TESTED, help="these tests only")
    args = parser.parse_args()
    n_draws = args.draws
    cells = [
        *(("difference", null, sizes, n) for null in NULLS for sizes in SIZES for n in GROUPS),
        *(("correlation", "normal", sizes, n) for sizes in SIZES for n in PAIR_GROUPS),
        *(("best", "normal", sizes, n) for sizes in SIZES for n in BEST_GROUPS),
        *(("seeds", "normal", "equal", n) for n in SEEDS),
    ]
    rows = []
    for tested, null, sizes, n in tqdm([cell for cell in cells if cell[0] in args.tested], unit="cell"):
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
