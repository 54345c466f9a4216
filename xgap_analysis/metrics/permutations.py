"""Permutations of items, of whole groups and within labels; and random directions in their place."""

from collections.abc import Sequence

import numpy as np

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.groups import Groups, group_codes


def codes_of(labels: Groups | None, n: int, name: str) -> np.ndarray:
    """A number from 0 for each item's label; each item for itself in groups, and all of one label in strata."""
    if labels is None:
        return np.arange(n) if name == "groups" else np.zeros(n, int)
    if len(labels) != n:
        raise XgapError(f"{len(labels)} labels were given as {name} for {n} items")
    codes = group_codes(labels)
    if (codes < 0).any():
        raise XgapError(f"an item has no label in {name} (NaN or None)")
    return codes


def sampled(codes: int | np.ndarray, sample: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of whole groups in a random order, as many as fit the sample; all of them where they fit."""
    codes = np.arange(codes) if isinstance(codes, int) else codes
    if len(codes) <= sample:
        return np.arange(len(codes))
    order = rng.permutation(int(codes.max()) + 1)
    fits = np.cumsum(np.bincount(codes)[order]) <= sample
    fits[0] = True  # a group that is larger than the sample by itself
    return np.flatnonzero(np.isin(codes, order[fits]))


def cells_of(codes: np.ndarray, strata: np.ndarray) -> list[np.ndarray]:
    """Rows `[m, size]` of the m groups of one stratum and one size, which may change places."""
    members = [np.flatnonzero(codes == group) for group in range(int(codes.max()) + 1)]
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for rows in members:
        if (strata[rows] != strata[rows[0]]).any():
            raise XgapError("a group has items of two labels of within; groups as wholes cannot be permuted within it")
        found.setdefault((int(strata[rows[0]]), len(rows)), []).append(rows)
    cells = [np.stack(of) for of in found.values()]
    if all(len(cell) == 1 for cell in cells):
        raise XgapError(
            "no two groups of one size can change places, so there is nothing to permute; give other groups"
        )
    return cells


def drawn(cells: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """An order `[n]` of the rows in which the groups of each cell have changed places."""
    order = np.arange(n)
    for cell in cells:
        order[cell] = cell[rng.permutation(len(cell))]
    return order


def random_columns(n: int, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal columns `[n, rank]` of mean zero, every such set as likely as another."""
    made = rng.normal(size=(n, rank))
    columns, triangle = np.linalg.qr(made - made.mean(axis=0))
    return np.asarray(columns * np.sign(np.diagonal(triangle)))  # without the signs some sets are likelier
