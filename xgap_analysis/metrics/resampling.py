"""Random sign patterns, and how many resamples are held at a time."""

import numpy as np
from numpy.random import Generator

CELLS = 1 << 22  # of a chunk of resamples held at a time (32 MB)


def chunks(resamples: int, width: int, cells: int | None = None) -> list[int]:
    """Numbers of resamples of this width that are drawn at a time, of this many cells in all."""
    step = max(1, (cells or CELLS) // width)
    return [min(step, resamples - start) for start in range(0, resamples, step)]


def sign_flip_p(totals: np.ndarray, resamples: int, rng: Generator) -> np.ndarray:
    """The two-sided p-values `[k]` of sums of zero, of totals `[k, g]` that could each as well have the other sign.

    They are exact for totals whose distribution is symmetric around zero; see `paired_test`.
    """
    whole = totals.sum(axis=1)
    slack = 1e-12 * np.abs(totals).sum(axis=1)  # a sum in another order is the same sum
    extreme = np.zeros(len(totals), np.int64)
    for size in chunks(resamples, totals.shape[1]):
        flips = rng.integers(0, 2, size=(size, totals.shape[1]), dtype=np.int8).astype(np.float64)
        extreme += (np.abs(whole - 2 * (flips @ totals.T)) >= np.abs(whole) - slack).sum(axis=0)
    return np.asarray((1 + extreme) / (1 + resamples))
