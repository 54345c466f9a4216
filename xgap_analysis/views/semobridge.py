"""SeMoBridge's closed form: images in the text space without an optimisation, and the control of that."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode
from xgap_analysis.views.view import register_view

CUT = 0.3


@register_view("semobridge", modality="image", space="text", by_item=True)
def semobridge(
    model: Any,
    items: Any,
    *,
    cut: float = CUT,
    on_error: str = "raise",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """Image features through the pseudo-inverse of the text projection and the projection itself: no step is taken.

    Formula: `z = f pinv(W)` with the text projection W `[p, d]` (`pooled @ W` is the text feature), whose singular
    values of at most `cut` count as zero; the feature is `u(z) L W`, scaled to unit length. L, the mean length of
    pooled texts, drops out with the scaling: the result is f projected onto the right singular vectors of W above the
    cut. So it reads the weights of the text tower alone, and a random subspace of that rank (`semobridge-random`) is
    its control.

    How to read it: what OTI gains beyond `semobridge-image` is gained by its optimisation.

    Args:
        model: with a text tower whose head is one linear map.
        items: images.
        cut: singular values up to this count as zero; it is absolute, as the authors have it.
        on_error, store, progress: as in `encode`.

    Raises:
        XgapError: a text tower without a linear projection, no singular value above the cut, or features of another
            dimension than its own.

    Source: SeMoBridge, ICLR 2026 (arXiv 2509.26036), without its bias and training.

    Example:
        >>> import xgap_analysis as xg
        >>> images = xg.load_dataset("emoji").split("val").limit(1).images
        >>> made = xg.view("semobridge")(xg.load_model("tiny"), images)
        >>> made.space, made.origin
        ('text', 'image')
    """
    own = encode(model, items, on_error=on_error, store=store, progress=progress)
    return _projected(own, _kept(model, cut), "semobridge", cut=cut)


@register_view("semobridge-random", modality="image", space="text", control=True, by_item=True)
def semobridge_random(
    model: Any,
    items: Any,
    *,
    cut: float = CUT,
    draw: int = 0,
    on_error: str = "raise",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """The control of `semobridge`: image features projected onto a random subspace of the same rank.

    Args:
        model, items, cut: as in `semobridge`.
        draw: which random subspace.
        on_error, store, progress: as in `encode`.

    Raises:
        XgapError: as `semobridge`.

    Example:
        >>> import xgap_analysis as xg
        >>> images = xg.load_dataset("emoji").split("val").limit(1).images
        >>> xg.view("semobridge-random", draw=1)(xg.load_model("tiny"), images).space
        'text'
    """
    own = encode(model, items, on_error=on_error, store=store, progress=progress)
    d, rank = _kept(model, cut).shape
    normal = torch.randn(d, d, generator=torch.Generator().manual_seed(draw), dtype=torch.float64)
    return _projected(own, torch.linalg.qr(normal).Q[:, :rank], "semobridge-random", cut=cut, draw=draw)


def _kept(model: Any, cut: float) -> Float[Tensor, "d r"]:
    """The right singular vectors of the text projection whose values are above the cut."""
    tower = model.tower("text")
    if not hasattr(tower, "projection"):
        raise XgapError(f"the text tower of model {model.name!r} has no linear projection that semobridge could invert")
    _, values, right = torch.linalg.svd(exact(tower.projection.detach().cpu()), full_matrices=False)
    if not bool((values > cut).any()):
        most = float(values.max())
        raise XgapError(
            f"semobridge: no singular value of the text projection is above {cut:g}; the largest is {most:.3g}"
        )
    return right[values > cut].T


def _projected(own: Features, kept: Float[Tensor, "d r"], name: str, **how: Any) -> Features:
    if own.dim != len(kept):
        raise XgapError(f"the image features have {own.dim} dimensions, and the text projection gives {len(kept)}")
    basis = kept.to(own.vectors.device)
    about = {key: value for key, value in own.provenance.items() if key != "digest"}  # which names the native vectors
    made = (exact(own.vectors) @ basis) @ basis.T
    return replace(own, vectors=made, space="text", provenance={**about, "view": name, "rank": len(kept.T), **how})
