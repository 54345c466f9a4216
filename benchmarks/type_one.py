"""How often a verdict is given where there is nothing: the type-I error of intervals, tests and both, by simulation.

    python -m benchmarks.type_one      # about ten minutes on one core; writes docs/type_one.csv

Each draw is a set of paired differences with true mean zero, whose queries lie in groups (see `metrics.paired_test`).
A false finding is an interval that excludes zero (`interval`), a p-value below 0.05 (`test`), and both (`both`), which
is what a verdict needs beside enough groups. `metrics.verdicts.ENOUGH_GROUPS` follows from this table.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from tqdm.auto import tqdm

from xgap_analysis.metrics import paired_test
from xgap_analysis.metrics.verdicts import LEVEL

OUT = Path(__file__).parent.parent / "docs" / "type_one.csv"
GROUPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 30, 50)
DRAWS, RESAMPLES = 5000, 2000


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
    """Shares of `draws` in which the interval, the test, and both find a difference that is not there."""
    rng = np.random.default_rng([list(NULLS).index(null), list(SIZES).index(sizes), n_groups])
    found = np.zeros((draws, 2), bool)
    for k in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES[sizes](rng, n_groups))
        d = NULLS[null](rng, of, n_groups)
        seed = int(rng.integers(2**31))
        test = paired_test(np.zeros(len(d)), d, groups=of, resamples=resamples, seed=seed)
        found[k] = test.low > 0 or test.high < 0, test.p_value < LEVEL
    both = found.all(axis=1).mean()
    return {
        "interval": found[:, 0].mean(),
        "test": found[:, 1].mean(),
        "both": both,
        "both_error": math.sqrt(both * (1 - both) / draws),
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    cells = [(null, sizes, n) for null in NULLS for sizes in SIZES for n in GROUPS]
    rows = [
        {"null": null, "sizes": sizes, "n_groups": n, "draws": args.draws, **false_findings(null, sizes, n, args.draws)}
        for null, sizes, n in tqdm(cells, unit="cell")
    ]
    pd.DataFrame(rows).round(4).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
