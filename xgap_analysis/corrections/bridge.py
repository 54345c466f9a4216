"""A map from one space into another, fitted on pairs: how far one modality's vector predicts the other's."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.linear import canonical, procrustes, ridge
from xgap_analysis.corrections.perceptron import Training, in_double, trained
from xgap_analysis.corrections.protocol import FeatureMap, check_dimensions, register_correction

KINDS = ("mlp", "procrustes", "ridge", "cca")
PENALTY = 0.01  # of ridge and cca, in mean variances

Map = Callable[[Tensor], Tensor]


@register_correction("bridge")
def bridge(
    calibration: Calibration,
    kind: str = "mlp",
    source: str = "image",
    target: str | None = None,
    centred: bool = True,
    penalty: float = PENALTY,
    rank: int | None = None,
    loss: str = "mse",
    depth: int = 2,
    steps: int = 500,
    seed: int = 0,
) -> FeatureMap:
    """Map the vectors of one space into the other, by what the pairs of the calibration split say.

    Formula: x' = u(f(x - m_x) + m_y), u the scaling to unit length and m the means of the paired vectors, with f

    | kind | f | fitted by |
    |---|---|---|
    | `mlp` | linear, GELU, linear | `loss`: `mse`, `cosine` or `contrastive` (see `Training`) |
    | `procrustes` | a rotation | least squares |
    | `ridge` | a matrix | least squares with a penalty |
    | `cca` | the directions that correlate most, of both spaces | canonical correlations; both spaces are mapped |

    `mlp` is the projector of xRAG, whose losses on a language model are left out: here it is fitted to the vectors of
    the other space. What a bridge reaches is an upper reference for `gap-shift`, which moves a space and turns nothing.
    Its control is `bridge-shuffled`.

    Args:
        calibration: whose pairs are fitted: items that share a label, or an id where there are no labels.
        kind: of the map.
        source: the space that is mapped.
        target: the space that it is mapped into; by default the other one of two.
        centred: whether m_x is taken off, and m_y added (but by `mlp`, whose last bias does that). `cca` always takes
            off the mean of either space, and adds none.
        penalty: of `ridge` and `cca`, in units of the mean variance.
        rank: directions that `cca` keeps; by default all.
        loss, depth, steps, seed: of `mlp`.

    Raises:
        XgapError: an unknown kind or loss, a space without calibration features, no pairs, or an option out of range.

    Source: Cheng et al., xRAG, NeurIPS 2024 (the projector); Schönemann 1966; Hotelling 1936.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> fitted = xg.correction("bridge(kind=ridge)").fit(calibration)
        >>> fitted(images).space
        'text'
        >>> xg.metrics.modality_gap(fitted(images), texts) < xg.metrics.modality_gap(images, texts)
        True
    """
    how = Training(loss, depth, steps, seed=seed)
    return _bridge(calibration, kind, source, target, centred, penalty, rank, how, shuffled=False)


@register_correction("bridge-shuffled", control=True)
def bridge_shuffled(
    calibration: Calibration,
    kind: str = "mlp",
    source: str = "image",
    target: str | None = None,
    centred: bool = True,
    penalty: float = PENALTY,
    rank: int | None = None,
    loss: str = "mse",
    depth: int = 2,
    steps: int = 500,
    seed: int = 0,
) -> FeatureMap:
    """The control of `bridge`: the same map of the same rank, fitted on the same vectors with the pairs shuffled.

    Raises:
        XgapError: as `bridge`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> fitted = xg.correction("bridge-shuffled(kind=ridge)").fit(calibration)  # fitted to shuffled pairs
        >>> fitted(images).space
        'text'
    """
    how = Training(loss, depth, steps, seed=seed)
    return _bridge(calibration, kind, source, target, centred, penalty, rank, how, shuffled=True)


def _bridge(
    calibration: Calibration,
    kind: str,
    source: str,
    target: str | None,
    centred: bool,
    penalty: float,
    rank: int | None,
    how: Training,
    shuffled: bool,
) -> FeatureMap:
    check_kind(kind, how, penalty)
    into = target if target is not None else _other(calibration, source)
    x, y = calibration.paired(source, into)
    if shuffled:
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(how.seed)).to(y.device)]
    made = fitted(x, y, kind, how, centred=centred, penalty=penalty, rank=rank)
    maps = dict(zip((source, into), made, strict=True))
    widths = {source: x.shape[1], into: y.shape[1]}

    def apply(features: Features) -> Features:
        if features.space not in maps:
            what = f"bridge maps space {source!r} into {into!r}"
            raise XgapError(f"{what}, and was not fitted on features of space {features.space!r}")
        check_dimensions(features, widths[features.space])
        own = maps[features.space]
        if own is None:
            return features
        where = features.space if kind == "cca" else into  # canonical directions belong to neither space
        return replace(features, vectors=own(exact(features.vectors)), space=where)

    return apply


def fitted(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n e"],
    kind: str,
    how: Training,
    *,
    centred: bool = True,
    penalty: float = PENALTY,
    rank: int | None = None,
) -> tuple[Map, Map | None]:
    """What maps rows of x's space, and what maps those of y's where they change too; fitted on pairs, see `bridge`.

    Raises:
        XgapError: an unknown kind, or an option out of range.
    """
    if not 0 <= penalty < float("inf"):
        raise XgapError(f"the penalty of a bridge is 0 or more, not {penalty}")
    most = min(x.shape[1], y.shape[1])
    if rank is not None and (kind != "cca" or not 1 <= rank <= most):
        raise XgapError(f"rank is the number of directions of kind=cca, from 1 to {most}, not {rank} of kind={kind}")
    means = [of.mean(dim=0) if centred or kind == "cca" else torch.zeros_like(of[0]) for of in (x, y)]
    if kind == "mlp":
        return _affine(in_double(trained(x - means[0], y, how)), means[0]), None
    x, y = x - means[0], y - means[1]
    if kind == "cca":
        made = canonical(x, y, penalty, most if rank is None else rank)
        return _affine(_by(made.first), means[0]), _affine(_by(made.second), means[1])
    return _affine(_by(procrustes(x, y) if kind == "procrustes" else ridge(x, y, penalty)), *means), None


def check_kind(kind: str, how: Training, penalty: float) -> None:
    """Refuse options that belong to another kind of map, and would change its name and nothing else.

    Raises:
        XgapError: an unknown kind, or an option that it does not read.
    """
    if kind not in KINDS:
        raise unknown_name("kind of bridge", kind, KINDS)
    if kind != "mlp" and (how.depth, how.steps) != (Training.depth, Training.steps):
        raise XgapError(f"depth and steps are of kind=mlp, and kind={kind} reads neither")
    if kind in ("mlp", "procrustes") and penalty != PENALTY:
        raise XgapError(f"penalty is of kind=ridge and kind=cca, and kind={kind} does not read it")


def _by(matrix: Tensor) -> Map:
    return lambda rows: rows @ matrix.to(rows.device)


def _affine(into: Map, off: Tensor, on: Tensor | None = None) -> Map:
    def mapped(rows: Tensor) -> Tensor:
        made = into(rows - off.to(rows.device))
        return made if on is None else made + on.to(rows.device)

    return mapped


def _other(calibration: Calibration, source: str) -> str:
    calibration.of(source)
    others = [space for space in calibration.features if space != source]
    if len(others) != 1:
        what = f"a bridge from {source!r} has {len(others)} other spaces to lead into ({', '.join(others)})"
        raise XgapError(f"{what}; name one: target=...")
    return others[0]
