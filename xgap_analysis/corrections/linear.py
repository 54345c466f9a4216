"""Linear maps from one space into another, from pairs of rows: a rotation, least squares, and canonical correlations.

Each takes centred rows, or rows as they are, and gives a matrix; see `bridge`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def procrustes(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]) -> Float[Tensor, "d e"]:
    """The rotation R (orthonormal rows or columns, where d and e differ) with the least `||x R - y||`.

    Formula: R = U V^T of the singular value decomposition x^T y = U S V^T.

    Source: Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966.
    """
    left, _, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    return left @ right


def ridge(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], penalty: float) -> Float[Tensor, "d e"]:
    """The matrix W with the least `||x W - y||^2 / n + p ||W||^2`, p the penalty times the mean variance of x.

    With penalty 0 and more rows than dimensions it is least squares.
    """
    return torch.linalg.lstsq(_loaded(x.T @ x / len(x), penalty), x.T @ y / len(x), driver=_driver(x)).solution


@dataclass(frozen=True)
class Canonical:
    """Canonical correlation analysis: what maps the rows of either space, and the correlations of what they become."""

    first: Float[Tensor, "d r"]
    second: Float[Tensor, "e r"]
    correlations: Float[Tensor, " r"]


def canonical(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], penalty: float, rank: int) -> Canonical:
    """The `rank` directions of x and of y that correlate most, each of unit variance, in their order.

    Formula: U = A E and V = B F of the singular value decomposition A S_xy B = E C F^T, with A = S_xx^(-1/2) and
    B = S_yy^(-1/2); to each covariance, the penalty times its mean variance is added on the diagonal.

    Source: Hotelling, Relations between two sets of variates, Biometrika 1936; Andrew et al., Deep CCA, ICML 2013.
    """
    a, b = (_root(_loaded(of.T @ of / len(of), penalty)) for of in (x, y))
    left, values, right = torch.linalg.svd(a @ (x.T @ y / len(x)) @ b, full_matrices=False)
    return Canonical(a @ left[:, :rank], b @ right.T[:, :rank], values[:rank])


def _loaded(covariance: Float[Tensor, "d d"], penalty: float) -> Float[Tensor, "d d"]:
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return covariance + penalty * covariance.diagonal().mean() * eye


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The inverse of the symmetric root; directions without any variance are left out."""
    values, directions = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return directions * torch.where(kept, values, torch.inf).rsqrt() @ directions.T


def _driver(x: Tensor) -> str:
    return "gelsd" if x.device.type == "cpu" else "gels"  # the one that may be singular; a GPU has the other alone
