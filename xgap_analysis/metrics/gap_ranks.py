"""Whether the modalities with the larger gap retrieve each other worse: a rank correlation over their pairs."""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.seeds import generator
from xgap_analysis.metrics.modalities import RETRIEVAL

Square: TypeAlias = NDArray[np.float64]
Order: TypeAlias = NDArray[np.int64]
Result: TypeAlias = tuple[float, float]
MOST_ORDERS = 720  # of modalities that are all gone through; of more, a sample


def gap_ranks(table: pd.DataFrame, *, by: str = "ap", resamples: int = 9999, seed: int = 0) -> pd.DataFrame:
    """Whether pairs of modalities with a larger gap retrieve worse: rank correlation of each measure with retrieval.

    Formula: Spearman's rank correlation over the pairs of modalities, and the mean of it where the table has several
    models or datasets. Pairs share modalities and are not independent, so the p-value is that of the Mantel test: the
    share of the orders of the modalities, reassigned in the retrieval alone, that give as large a correlation. One
    order is for all tables: models of the same modalities are no independent evidence, since images and texts, say,
    may retrieve each other best in all of them for a reason of their own. Of three modalities the p-value is never
    below 1/3, however many models there are: with so few pairs the correlation describes, and proves nothing.

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
        >>> found.loc["rmg", ["spearman", "p_value"]].astype(float).round(2).tolist()  # three pairs, in order
        [-1.0, 0.33]
    """
    if "measure" not in table or by not in set(table["measure"]):
        raise unknown_name("measure", by, sorted(set(table["measure"])) if "measure" in table else ())
    keys = [name for name in ("model", "dataset", "split", "label_set") if name in table]
    tables = [own for _, own in table.groupby(keys, sort=False)] if keys else [table]
    names = [sorted({*own["x"], *own["y"]}) for own in tables]
    squares = [_squares(own, there) for own, there in zip(tables, names, strict=True)]
    if min(map(len, names)) < 3:
        raise XgapError("a rank correlation over pairs of modalities needs three modalities, and this table has two")
    if any(by not in of for of in squares):
        raise XgapError(f"one of the {len(tables)} tables has no measure {by!r}; leave it out")
    drawn = _orders(names, resamples, generator(seed))
    rows = []
    for measure in squares[0]:
        if measure in RETRIEVAL or any(measure not in of for of in squares):
            continue
        found, p_value = _mantel([(of[measure], of[by]) for of in squares], *drawn)
        n_pairs = sum(len(there) * (len(there) - 1) // 2 for there in names)
        about = {"n_pairs": n_pairs, "n_tables": len(tables)}
        rows.append({"measure": measure, "spearman": found, "p_value": p_value, **about})
    return pd.DataFrame(rows)


def _squares(table: pd.DataFrame, modalities: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Each measure of one table as a symmetric matrix `[k, k]` of its modalities."""
    names = {name: row for row, name in enumerate(modalities)}
    found: dict[str, NDArray[np.float64]] = {}
    for measure, rows in table.groupby("measure", sort=False):
        square = np.full((len(names), len(names)), np.nan)
        for x, y, value in zip(rows["x"], rows["y"], rows["value"], strict=True):
            square[names[x], names[y]] = square[names[y], names[x]] = value
        found[str(measure)] = square
    if {"cone_x", "cone_y"} <= found.keys():
        found["cone"] = (found.pop("cone_x") + found.pop("cone_y")) / 2
    return found


def _orders(names: Sequence[Sequence[str]], resamples: int, rng: Generator) -> tuple[list[list[Order]], bool]:
    """Orders of each table's modalities, one draw from one order of all, and whether these are all orders."""
    every = sorted({name for own in names for name in own})
    rows = [np.array([every.index(name) for name in own]) for own in names]
    whole = math.factorial(len(every)) <= MOST_ORDERS
    drawn = permutations(range(len(every))) if whole else (rng.permutation(len(every)) for _ in range(resamples))
    return [[np.argsort(np.asarray(place)[own]) for own in rows] for place in drawn], whole


def _mantel(pairs: Sequence[tuple[Square, Square]], orders: Sequence[Sequence[Order]], whole: bool) -> Result:
    """Mean rank correlation of two matrices over their upper triangles, and the p-value over orders of modalities."""
    ranks = [(_ranks(first), _ranks(second)) for first, second in pairs]
    found = float(np.mean([(first * second).sum() for first, second in ranks]))
    if np.isnan(found):
        return np.nan, np.nan
    drawn = np.zeros(len(orders))
    for k, (first, second) in enumerate(ranks):
        drawn += [(first * second[np.ix_(of[k], of[k])]).sum() for of in orders]
    extreme = int((np.abs(drawn) / len(ranks) >= abs(found) - 1e-12).sum())
    return found, extreme / len(orders) if whole else (1 + extreme) / (1 + len(orders))


def _ranks(square: Square) -> Square:
    """Ranks of the pairs, centred, with products of two such matrices that sum to Spearman's correlation."""
    upper = np.triu_indices(len(square), 1)
    values = pd.Series(square[upper]).rank().to_numpy() - (len(upper[0]) + 1) / 2
    length = np.sqrt(2 * values @ values)
    made = np.zeros(square.shape)
    made[upper] = values / length if length > 0 else np.nan
    return made + made.T
