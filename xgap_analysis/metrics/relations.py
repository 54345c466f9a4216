"""Relations: matrices `[n, n]` of one set of features, whose products add up to the agreement of two sets."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.calls import Call, parse
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.metrics.structure import similarity_ranks
from xgap_analysis.scoring.reductions import top

Measure = Callable[[Features, Features], float]


def values_of(
    metric: str | Measure, x: Sequence[Features], y: Sequence[Features], chosen: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an order of the items of y to the values `[layers of x, layers of y]`."""
    if not isinstance(metric, str):
        kept = [
            [own if len(own) == len(chosen) else own.select([own.ids[i] for i in chosen]) for own in of]
            for of in (x, y)
        ]

        def of_features(order: np.ndarray) -> np.ndarray:
            again = [replace(own, vectors=own.vectors[torch.from_numpy(order)]) for own in kept[1]]
            return np.array([[float(metric(a, b)) for b in again] for a in kept[0]])

        return of_features
    call = checked(metric)
    left, right = (list(_relations(call.name, call.options, of, chosen)) for of in (x, y))
    flat = torch.stack(left).flatten(1)

    def of_matrices(order: np.ndarray) -> np.ndarray:
        places = torch.from_numpy(order)
        return np.stack([(flat @ _permuted(own, places)).numpy() for own in right], axis=1)

    return of_matrices


def turned_values_of(
    metric: str | Measure, x: Sequence[Features], y: Sequence[Features], chosen: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """A function from orthonormal columns `[n, r]` to the values `[layers of x, layers of y]`, and r.

    The centred rows of all layers of y, side by side, are `U T` with r columns in U; the given columns stand for U, so
    that all products of columns (singular values, and what the layers have in common) stay, and rows are others. The
    mean of each layer is added again.
    """
    rows = [[exact(own.vectors.cpu())[torch.from_numpy(chosen)] for own in of] for of in (x, y)]
    means = [of.mean(dim=0) for of in rows[1]]
    widths = [of.shape[1] for of in rows[1]]
    _, spectrum, right = torch.linalg.svd(
        torch.cat([of - of.mean(dim=0) for of in rows[1]], dim=1), full_matrices=False
    )
    rank = min(len(spectrum), len(chosen) - 1)  # centred rows span a dimension less
    parts = (spectrum[:rank, None] * right[:rank]).split(widths, dim=1)
    if isinstance(metric, str):
        make = _relation(metric)
        flat = torch.stack([make(of) for of in rows[0]]).flatten(1)

    def of_columns(columns: np.ndarray) -> np.ndarray:
        turned = [torch.from_numpy(columns) @ part + mean for part, mean in zip(parts, means, strict=True)]
        if isinstance(metric, str):
            return np.stack([(flat @ make(of).flatten()).numpy() for of in turned], axis=1)
        kept = [own.select([own.ids[i] for i in chosen]) for own in x]
        again = [replace(kept[0], vectors=of, space=own.space) for of, own in zip(turned, y, strict=True)]
        return np.array([[float(metric(a, b)) for b in again] for a in kept])

    return of_columns, rank


def _relation(metric: str) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, "n n"]]:
    """What makes the matrix of a measure from rows, which are scaled to unit length where it compares cosines."""
    call = checked(metric)
    scaled = call.name in OF_COSINES
    return lambda rows: RELATIONS[call.name](rows / rows.norm(dim=1, keepdim=True) if scaled else rows, **call.options)


def checked(metric: str) -> Call:
    """A measure by name.

    Raises:
        XgapError: an unknown one, or an option that it does not have.
    """
    call = parse(metric)
    if call.name not in RELATIONS:
        raise unknown_name("calibrated metric", call.name, RELATIONS)
    if call.arguments or (call.options and (call.name != "mutual_knn" or set(call.options) - {"k"})):
        raise XgapError(f"{metric!r} has an option that there is not; mutual_knn has k, the others have none")
    return call


def _permuted(relation: Float[Tensor, "n n"], places: Int[Tensor, " n"]) -> Float[Tensor, " m"]:
    return relation.index_select(0, places).index_select(1, places).flatten()


def _relations(
    name: str, options: Mapping[str, Any], of: Sequence[Features], chosen: np.ndarray
) -> Iterator[Float[Tensor, "n n"]]:
    for own in of:
        vectors = exact(own.vectors.cpu())[torch.from_numpy(chosen)]
        yield RELATIONS[name](vectors, **options)


def _centred(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    rows = vectors - vectors.mean(dim=0)
    return _unit(rows @ rows.T)


def _unbiased(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    n = len(vectors)
    if n < 4:
        raise XgapError(f"an alignment without bias needs at least 4 items, not {n}")
    rows = vectors - vectors.mean(dim=0)
    own = (rows @ rows.T).fill_diagonal_(0)
    sums = own.sum(dim=0) / (n - 2)
    return _unit((own - sums - sums[:, None] + sums.sum() / (n - 1)).fill_diagonal_(0))


def _neighbours(vectors: Float[Tensor, "n d"], k: int = 10) -> Float[Tensor, "n n"]:
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < len(vectors):
        raise XgapError(f"k must lie between 1 and the {len(vectors) - 1} other items, not {k}")
    scores = (vectors @ vectors.T).float().fill_diagonal_(-math.inf)
    return exact(top(scores, None, 1, k)) / math.sqrt(k * len(vectors))


def _ranked(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    ranks = torch.from_numpy(similarity_ranks(vectors))
    above = torch.ones(len(vectors), len(vectors), dtype=torch.bool).triu(diagonal=1)
    made = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    made[above] = ranks - ranks.mean()
    return _unit(made + made.T)


def _unit(relation: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    return relation / relation.norm()


RELATIONS: dict[str, Callable[..., Tensor]] = {
    "linear_cka": _centred,
    "debiased_cka": _unbiased,
    "mutual_knn": _neighbours,
    "spearman": _ranked,
}
OF_COSINES = ("mutual_knn", "spearman")
