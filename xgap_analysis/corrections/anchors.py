"""The texts that a correction stands on: class names through the text tower, or the captions it is calibrated with."""

from pathlib import Path

import torch
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.models.tower import features_of

BATCH = 64  # prompts encoded together
WORDS = ("classes", "imagenet", "imagenet-torch", "captions")


def anchor_texts(calibration: Calibration, words: str, template: str) -> Tensor:
    """Text features `[c, d]` of the anchors, not normalised where the model makes them, in double precision.

    In a chain of corrections they go through those before, as all texts do, and are unit rows then.

    Args:
        calibration: what is known of the split and the model.
        words: `"classes"`, the names of the split's classes; `"imagenet"`, the thousand of ImageNet (as open_clip
            lists them), or `"imagenet-torch"` (as torchvision lists them, one word or two of each); the path of a text
            file (`names.txt`), one name in a line; or `"captions"`, the calibration texts as they are (unit rows, and
            no model is needed).
        template: a prompt with `{}`; `"{}"` for the bare names.

    Raises:
        XgapError: an unknown choice or a file that cannot be read, no model or no class names where they are needed, or
            a template without `{}`.
    """
    if words not in WORDS and not words.endswith(".txt"):
        raise XgapError(f"words is one of {', '.join(WORDS)}, or the path of a text file of names, not {words!r}")
    if words == "captions":
        return exact(calibration.texts.vectors)
    model = calibration.model
    if model is None:
        raise XgapError(f'words="{words}" needs a model to encode them, and there is none; use words="captions"')
    if "{}" not in template:
        raise XgapError(f"a template has {{}} where the class name goes, and {template!r} has not")
    names = _names(words, calibration)
    if not names:
        raise XgapError(f'split {calibration.split!r} names no classes; use words="imagenet" or "captions"')
    captions = [template.replace("{}", name) for name in names]
    parts = []
    with torch.inference_mode():
        for some in (captions[i : i + BATCH] for i in range(0, len(captions), BATCH)):
            made = features_of(model.text, model.text.prepare(some), len(some), model.device)
            parts.append(made.cpu().double())
    vectors = torch.cat(parts)
    if calibration.before is None:
        return vectors
    texts = Features(vectors, [str(place) for place in range(len(vectors))], model.text.space, "text")
    return exact(calibration.before(texts).vectors)


def _names(words: str, calibration: Calibration) -> list[str]:
    if words == "imagenet":
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return list(IMAGENET_CLASSNAMES)
    if words == "imagenet-torch":
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return list(_IMAGENET_CATEGORIES)
    if words == "classes":
        return list(calibration.class_words)
    try:
        lines = Path(words).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise XgapError(f"the names in {words!r} cannot be read ({error})") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise XgapError(f"{words!r} holds no name; write one in each line")
    return names
