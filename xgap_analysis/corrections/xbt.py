"""Backward compatibility: a new model's queries mapped into an old model's space, whose gallery stays as it is."""

from dataclasses import replace
from pathlib import Path

import torch

from xgap_analysis.core.calibration import Calibration, pairs_by_label
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import load_features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.bridge import PENALTY, check_kind, fitted
from xgap_analysis.corrections.perceptron import Training, in_double, tied, trained
from xgap_analysis.corrections.protocol import ByRole, check_dimensions, register_correction

FINER = 0.1  # of the learning rate, where what the texts have taught is trained further on pairs


@register_correction("xbt")
def xbt(
    calibration: Calibration,
    old: Features | Path | str = "",
    on: str = "text",
    kind: str = "mlp",
    centred: bool = False,
    loss: str = "cosine",
    depth: int = 2,
    steps: int = 500,
    seed: int = 0,
) -> ByRole:
    """Map a new model's queries into an old model's space by a projection learned from texts; the gallery is the old.

    The gallery was computed by the old model, as `precomputed(old-images.npz)`, and is not computed again; queries of
    the new model, images or texts, pass one projection phi. Compare new queries on the old gallery with old queries on
    it, and with the new model on its own: `xgap study --comparisons "image-precomputed(old-images.npz)"`.

    | on | phi is fitted to |
    |---|---|
    | `text` | `loss` between phi(t_new) and t_old of the same texts; no image is seen |
    | `pairs` | that first, and then images and texts of the new model, by the contrastive loss of phi(v) and phi(t) |

    A map from texts alone fits images only as far as the two modalities turn and shift alike from model to model; what
    the gap costs shows in image queries beside text queries, and with `centred`.

    Args:
        calibration: of the new model; its texts, and for `pairs` its images too.
        old: the old model's features of the calibration texts: `Features`, or a file of them. Rows are the same text
            where they have one id, or one number where the file has no ids.
        on: `text` or `pairs`.
        kind: of projection: `mlp`, or `procrustes` and `ridge` beside it, which see texts alone.
        centred: whether images and texts of the new model each lose their own mean first (`procrustes` and `ridge` are
            fitted around the texts' mean either way).
        loss, depth, steps, seed: of `mlp`; see `Training`.

    Raises:
        XgapError: no old features, none of the calibration texts among them, a gallery of another dimension than the
            old features, or an unknown choice.

    Source: Jang et al., Towards cross-modal backward-compatible representation learning (XBT), 2024, from its abstract:
    its tuning of the new encoder is left out, and its loss and depth are not confirmed (these are near TextME's).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> old = xg.Features(-texts.vectors, texts.ids, space="text", origin="text")  # of an older model
        >>> fitted = xg.correction("xbt", old=old, steps=5).fit(calibration)
        >>> fitted.split
        'train'
    """
    how = Training(loss, depth, steps, seed=seed)
    return _xbt(calibration, old, on, kind, centred, how, shuffled=False)


@register_correction("xbt-shuffled", control=True)
def xbt_shuffled(
    calibration: Calibration,
    old: Features | Path | str = "",
    on: str = "text",
    kind: str = "mlp",
    centred: bool = False,
    loss: str = "cosine",
    depth: int = 2,
    steps: int = 500,
    seed: int = 0,
) -> ByRole:
    """The control of `xbt`: the same projection of the same rank, fitted to the old texts in shuffled order.

    Raises:
        XgapError: as `xbt`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> old = xg.Features(-texts.vectors, texts.ids, space="text", origin="text")  # of an older model
        >>> fitted = xg.correction("xbt-shuffled", old=old, steps=5).fit(calibration)
        >>> fitted.split
        'train'
    """
    how = Training(loss, depth, steps, seed=seed)
    return _xbt(calibration, old, on, kind, centred, how, shuffled=True)


def _xbt(
    calibration: Calibration,
    old: Features | Path | str,
    on: str,
    kind: str,
    centred: bool,
    how: Training,
    shuffled: bool,
) -> ByRole:
    if on not in ("text", "pairs"):
        raise XgapError(f'xbt is fitted on="text" or on="pairs", not {on!r}')
    if kind == "cca" or (on == "pairs" and kind != "mlp"):
        raise XgapError(f"xbt(kind={kind}) cannot be fitted on={on}: kind is mlp, or procrustes or ridge on text")
    check_kind(kind, how, PENALTY)
    new, before = _texts(calibration, old)
    if shuffled:
        order = torch.randperm(len(before), generator=torch.Generator().manual_seed(how.seed))
        before = before[order.to(before.device)]
    means = {space: exact(of.vectors).mean(dim=0) * centred for space, of in calibration.features.items()}
    x = new - means["text"]
    if kind == "mlp":
        network = trained(x, before, how)
        if on == "pairs":
            images, texts = calibration.paired("image", "text")
            finer = replace(how, lr=FINER * how.lr)
            network = tied(network, images - means["image"], texts - means["text"], finer)
        project = in_double(network)
    else:
        project, _ = fitted(x, before, kind, how, centred=True, penalty=PENALTY)

    def of_query(features: Features) -> Features:
        calibration.of(features.space)
        check_dimensions(features, new.shape[1])
        vectors = exact(features.vectors)
        return replace(features, vectors=project(vectors - means[features.space].to(vectors.device)))

    def of_gallery(features: Features) -> Features:
        if features.dim != before.shape[1]:
            what = f"the gallery of xbt is the old model's, of {before.shape[1]} dimensions, not {features.dim}"
            raise XgapError(f"{what}; give it as a view: precomputed(old.npz)")
        return features

    return ByRole(of_query, of_gallery)


def _texts(calibration: Calibration, old: Features | Path | str) -> tuple[torch.Tensor, torch.Tensor]:
    """The calibration texts as the new model sees them, and as the old one does."""
    if not isinstance(old, Features):
        if not str(old):
            raise XgapError("xbt needs the old model's features of the calibration texts: xbt(old=old-texts.npz)")
        old = load_features(old, space="text")
    texts = calibration.texts
    rows = [(i, i) for i in range(len(texts))] if old.numbered and len(old) == len(texts) else []
    rows = rows or pairs_by_label(texts, old, {})
    if not rows:
        what = f"none of the {len(texts)} calibration texts, such as {texts.ids[0]!r}, is among the old model's"
        raise XgapError(f"{what} {len(old)} features, such as {old.ids[0]!r}")
    left, right = (list(part) for part in zip(*rows, strict=True))
    own = exact(texts.vectors[left])
    return own, exact(old.vectors[right]).to(own.device)
