"""IsoCLIP: the projections of the two towers, without the anisotropic directions of what they have in common."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.protocol import FeatureMap, register_correction
from xgap_analysis.models.tower import Model

# Where nothing is published for a model: the shares of the spectrum removed from CLIP ViT-B/32 (k_top, k_bottom).
SHARES = {"image": (150 / 512, 50 / 512), "text": (20 / 512, 100 / 512)}


@dataclass(frozen=True)
class InterModalOperator:
    """Psi = W_x^T W_y of two towers of a model and its singular value decomposition, U diag(S) V^T.

    Args:
        singular_values: S `[r]`, descending, r the rank that two projections of p and q inputs can have.
        left, right: U `[p, r]` and V `[q, r]`, orthonormal columns, of the first and the second tower.
        projections: W_x `[d, p]` and W_y `[d, q]`.
        spaces: of the two towers: image and text, where the model has both.
    """

    singular_values: Tensor
    left: Tensor
    right: Tensor
    projections: tuple[Tensor, Tensor]
    spaces: tuple[str, str] = ("image", "text")

    def directions(self, space: str) -> tuple[Tensor, Tensor]:
        """The projection and the singular directions of one tower."""
        first = space == self.spaces[0]
        return (self.projections[0], self.left) if first else (self.projections[1], self.right)


def inter_modal_operator(model: Model) -> InterModalOperator:
    """The inter-modal operator of a model, in double precision: of images and texts, or of its two towers.

    Raises:
        XgapError: a tower without a linear projection, or a model without two towers that go together.

    Source: Magistri et al., IsoCLIP, CVPR 2026, the inter-modal operator Psi.

    Example:
        >>> import xgap_analysis as xg
        >>> operator = inter_modal_operator(xg.load_model("tiny"))
        >>> operator.spaces, bool((operator.singular_values.diff() <= 0).all())  # in descending order
        (('image', 'text'), True)
    """
    spaces = ("image", "text") if len(model.towers) != 2 else tuple(model.towers)
    first, second = sorted(spaces, key=lambda space: space == "text")  # the text tower, if there is one, is the second
    w_first, w_second = (_projection(model, space) for space in (first, second))
    left, values, right = torch.linalg.svd(w_first.T @ w_second, full_matrices=False)
    rank = min(*w_first.shape, *w_second.shape)
    return InterModalOperator(values[:rank], left[:, :rank], right[:rank].T, (w_first, w_second), (first, second))


def _projection(model: Model, space: str) -> Tensor:
    tower = model.tower(space)
    if not hasattr(tower, "projection"):
        raise XgapError(f"the {space} tower of model {model.name!r} has no linear projection that could be corrected")
    return tower.projection.detach().cpu().double().T


@register_correction("isoclip", claims={"I-I": 1, "T-T": 1}, model_alone=True)
def isoclip(calibration: Calibration, k_top: int | None = None, k_bottom: int | None = None) -> FeatureMap:
    """Remove the first and the last singular directions of the inter-modal operator, from each modality.

    Formula: W' = W U_S U_S^T, U_S the columns k_top to r - k_bottom of U (images) or V (texts); the feature is W' f of
    the feature f before the projection. Every column of U_S lies in the row space of W, so W' f = W U_S U_S^T W^+ x
    with x = W f: the correction acts on the features themselves, and inverted ones too. With k_top = k_bottom = 0
    nothing changes.

    The authors keep the model's own projections for comparisons across modalities.

    Args:
        calibration: of which only the model is used.
        k_top, k_bottom: number of directions removed, for both modalities. By default those published for the
            model, for each modality; if there are none, the fractions of the spectrum published for CLIP ViT-B/32.

    Raises:
        XgapError: no model, a tower without a linear projection, or nothing left.

    Source: Magistri et al., IsoCLIP, CVPR 2026.

    Example:
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> calibration = xg.Calibration({}, split="none", model=model)
        >>> texts = xg.encode(model, ["a cat", "a dog"], progress=False)
        >>> xg.correction("isoclip(k_top=2, k_bottom=2)").fit(calibration)(texts).dim
        512
    """
    model = calibration.model
    if model is None:
        raise XgapError("isoclip reads the projections of a model, and these features came without one")
    operator = inter_modal_operator(model)
    rank = len(operator.singular_values)
    maps = {}
    for space in operator.spaces:
        top, bottom = _ranks(model, space, rank)
        top, bottom = top if k_top is None else k_top, bottom if k_bottom is None else k_bottom
        if min(top, bottom) < 0 or top + bottom >= rank:
            raise XgapError(f"isoclip: k_top {top} and k_bottom {bottom} leave nothing of {rank} directions")
        projection, directions = operator.directions(space)
        maps[space] = _restriction(projection, directions[:, top : rank - bottom])

    def apply(features: Features) -> Features:
        if features.space not in maps:
            first, second = maps
            raise XgapError(f'isoclip corrects features of space "{first}" or "{second}", not {features.space!r}')
        matrix = maps[features.space].to(features.vectors.device)
        if features.dim != len(matrix):
            raise XgapError(f"the features have {features.dim} dimensions, the model's projections give {len(matrix)}")
        return replace(features, vectors=exact(features.vectors) @ matrix.T)

    return apply


def _ranks(model: Model, space: str, rank: int) -> tuple[int, int]:
    published = model.settings.get("isoclip", {}).get(space)
    if published is not None:
        return int(published[0]), int(published[1])
    top, bottom = SHARES.get(space, SHARES["image"])
    return round(top * rank), round(bottom * rank)


def _restriction(projection: Float[Tensor, "d p"], kept: Float[Tensor, "p k"]) -> Float[Tensor, "d d"]:
    """The map of features x = W f to W U_S U_S^T f."""
    return projection @ kept @ kept.T @ torch.linalg.pinv(projection)
