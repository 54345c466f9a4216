"""Whether the modalities with the larger gap retrieve each other worse: a rank correlation over their pairs."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.metrics.modalities import RETRIEVAL

MOST_ORDERS = 720  # of modalities that are all gone through; of more, a sample


def gap_ranks(table: pd.DataFrame, *, by: str = "ap", resamples: int = 9999, seed: int = 0) -> pd.DataFrame:
    """Whether pairs of modalities with a larger gap retrieve worse: rank correlation of each measure with retrieval.

    Formula: Spearman's rank correlation over the pairs of modalities, and the mean of it where the table has several
    models or datasets. Pairs share modalities and are not independent, so the p-value is that of the Mantel test: the
    share of the orders of the modalities, reassigned in the retrieval alone, that give as large a correlation. Of three
    modalities it is never below 1/3: with so few pairs the correlation describes, and proves nothing.

    Args:
        table: from `gap_table` or `Study.gap_table`; each model, dataset and split in it counts by itself.
        by: the measure of retrieval.
        resamples: of orders, where there are more than 720.
        seed: of the orders.

    Returns:
        Columns `measure`, `spearman` in [-1, 1] (negative for `modality_gap`: a larger gap, worse retrieval),
        `p_value`, `n_pairs` (of all tables) and `n_tables`; `cone` is the mean of the pair's two. NaN where every pair
        has the same value.

    Raises:
        XgapError: a table without such a measure, or with fewer than three modalities.

    Source: Mantel, The detection of disease clustering and a generalized regression approach, Cancer Research 1967.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> shared = random.normal(size=(40, 16))
        >>> noise = {"a": 0, "b": 1, "c": 3}
        >>> sets = {name: shared + random.normal(size=(40, 16)) * of for name, of in noise.items()}
        >>> found = xg.metrics.gap_ranks(xg.gap_table(sets)).set_index("measure")
        >>> float(found.loc["rmg", "spearman"]), round(float(found.loc["rmg", "p_value"]), 2)  # three pairs, in order
        (-1.0, 0.33)
    """
    if "measure" not in table or by not in set(table["measure"]):
        raise unknown_name("measure", by, sorted(set(table["measure"])) if "measure" in table else ())
    keys = [name for name in ("model", "dataset", "split", "label_set") if name in table]
    tables = [own for _, own in table.groupby(keys, sort=False)] if keys else [table]
    squares = [_squares(own) for own in tables]
    if min(len(of[by]) for of in squares) < 3:
        raise XgapError("a rank correlation over pairs of modalities needs three modalities, and this table has two")
    rng = np.random.default_rng(seed)
    rows = []
    for measure in squares[0]:
        if measure in RETRIEVAL or any(measure not in of for of in squares):
            continue
        pairs = [(of[measure], of[by]) for of in squares]
        found, p_value = _mantel(pairs, resamples, rng)
        n_pairs = sum(len(square) * (len(square) - 1) // 2 for square, _ in pairs)
        about = {"n_pairs": n_pairs, "n_tables": len(tables)}
        rows.append({"measure": measure, "spearman": found, "p_value": p_value, **about})
    return pd.DataFrame(rows)


def _squares(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Each measure of one table as a symmetric matrix `[k, k]` of modalities."""
    names = {name: row for row, name in enumerate(dict.fromkeys([*table["x"], *table["y"]]))}
    found = {}
    for measure, rows in table.groupby("measure", sort=False):
        square = np.full((len(names), len(names)), np.nan)
        for x, y, value in zip(rows["x"], rows["y"], rows["value"], strict=True):
            square[names[x], names[y]] = square[names[y], names[x]] = value
        found[str(measure)] = square
    if {"cone_x", "cone_y"} <= found.keys():
        found["cone"] = (found.pop("cone_x") + found.pop("cone_y")) / 2
    return found


def _mantel(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], resamples: int, rng: Generator
) -> tuple[float, float]:
    """Mean rank correlation of two matrices over their upper triangles, and the p-value over orders of modalities."""
    sizes = [len(square) for square, _ in pairs]
    found = _mean_correlation(pairs, [np.arange(n) for n in sizes])
    if np.isnan(found):
        return np.nan, np.nan
    if len(pairs) == 1 and np.prod(np.arange(1, sizes[0] + 1)) <= MOST_ORDERS:
        drawn = [_mean_correlation(pairs, [np.array(order)]) for order in permutations(range(sizes[0]))]
        return found, float(np.mean(np.abs(drawn) >= abs(found) - 1e-12))
    drawn = [_mean_correlation(pairs, [rng.permutation(n) for n in sizes]) for _ in range(resamples)]
    return found, float((1 + np.sum(np.abs(drawn) >= abs(found) - 1e-12)) / (1 + resamples))


def _mean_correlation(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], orders: Sequence[NDArray[np.int64]]
) -> float:
    each = []
    for (first, second), order in zip(pairs, orders, strict=True):
        upper = np.triu_indices(len(first), 1)
        each.append(_spearman(first[upper], second[np.ix_(order, order)][upper]))
    return float(np.mean(each))


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    a, b = (pd.Series(values).rank().to_numpy() - (len(values) + 1) / 2 for values in (first, second))
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 and not np.isnan(length) else np.nan
