"""The texts that a correction stands on: class names through the text tower, or the captions it is calibrated with."""

import torch
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact
from xgap_analysis.models.tower import features_of

BATCH = 64  # prompts encoded together
WORDS = ("classes", "imagenet", "captions")


def anchor_texts(calibration: Calibration, words: str, template: str) -> Tensor:
    """Text features `[c, d]` of the anchors, not normalised where the model makes them, in double precision.

    Args:
        calibration: what is known of the split and the model.
        words: `"classes"`, the names of the split's classes; `"imagenet"`, the thousand of ImageNet (as open_clip
            lists them); or `"captions"`, the calibration texts as they are (unit rows, and no model is needed).
        template: a prompt with `{}`; `"{}"` for the bare names.

    Raises:
        XgapError: an unknown choice, no model or no class names where they are needed, or a template without `{}`.
    """
    if words not in WORDS:
        raise XgapError(f"words is one of {', '.join(WORDS)}, not {words!r}")
    if words == "captions":
        return exact(calibration.texts.vectors)
    model = calibration.model
    if model is None:
        raise XgapError(f'words="{words}" needs a model to encode them, and there is none; use words="captions"')
    if "{}" not in template:
        raise XgapError(f"a template has {{}} where the class name goes, and {template!r} has not")
    if words == "imagenet":
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        names = list(IMAGENET_CLASSNAMES)
    else:
        names = list(calibration.class_words)
    if not names:
        raise XgapError(f'split {calibration.split!r} names no classes; use words="imagenet" or "captions"')
    captions = [template.replace("{}", name) for name in names]
    parts = []
    with torch.inference_mode():
        for some in (captions[i : i + BATCH] for i in range(0, len(captions), BATCH)):
            made = features_of(model.text, model.text.prepare(some), len(some), model.device)
            parts.append(made.cpu().double())
    return torch.cat(parts)
