"""Class names in several prompts, whose features are averaged."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.mixed import without_digests
from xgap_analysis.core.precision import exact
from xgap_analysis.datasets.items import Texts
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode
from xgap_analysis.views.view import register_view

SETS = ("imagenet80", "imagenet7")


@register_view("ensemble", modality="text", by_item=True)
def ensemble(
    model: Any,
    items: Any,
    *,
    templates: str | Sequence[str] = "imagenet80",
    prompt: str = "{}",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """Class names in each of several templates, encoded, and the mean of their unit features.

    Formula: `u(mean over templates t of u(f(t with the name)))`, u the scaling to unit length. With one template it is
    the text view of that prompt. As a gallery of zero-shot classification:
    `xg.Comparison("zero-shot-80", "image", "ensemble", "zero-shot", baseline="zero-shot")`.

    Args:
        model: with a text tower.
        items: class names, bare or in `prompt`, which is taken off first.
        templates: `"imagenet80"` or `"imagenet7"`, CLIP's templates for ImageNet (the second are its best seven), or a
            list of templates with `{}`.
        prompt: that the names are in; a study gives its dataset's.
        store, progress: as of `encode`.

    Raises:
        XgapError: an unknown set, a template without `{}`, no template, or items that are no texts.

    Source: Radford et al., Learning transferable visual models from natural language supervision, 2021, section 3.1.4.

    Example:
        >>> import xgap_analysis as xg
        >>> names = xg.Texts(["cat", "sea"], ["a cat", "the sea"])
        >>> view = xg.view("ensemble", templates=["a photo of {}.", "a drawing of {}."])
        >>> view(xg.load_model("tiny"), names, progress=False).ids
        ('cat', 'sea')
    """
    if not isinstance(items, Texts):
        raise XgapError("ensemble puts class names in templates; these items are no texts")
    filled = _templates(templates)
    before, _, after = prompt.partition("{}")
    names = [_bare(caption, before, after) for caption in items.captions]
    prompts = Texts(
        [f"{place}/{i}" for place in range(len(filled)) for i in range(len(names))],
        [fill(name) for fill in filled for name in names],
    )
    made = encode(model, prompts, store=store, progress=progress)
    vectors = exact(made.vectors).unflatten(0, (len(filled), len(names))).mean(dim=0)
    named = templates if isinstance(templates, str) else list(templates)
    about = {**without_digests(made.provenance), "templates": named}
    return replace(made, vectors=vectors, ids=items.ids, provenance=about, items="")


def _templates(given: str | Sequence[str]) -> list[Callable[[str], str]]:
    if isinstance(given, str):
        if given not in SETS:
            raise XgapError(f"templates are one of {', '.join(SETS)}, or a list of templates with {{}}, not {given!r}")
        from open_clip import zero_shot_metadata

        name = "OPENAI" if given == "imagenet80" else "SIMPLE"
        return list(getattr(zero_shot_metadata, f"{name}_IMAGENET_TEMPLATES"))
    if not len(given):
        raise XgapError("an ensemble has one template or more")
    without = next((one for one in given if "{}" not in str(one)), None)
    if without is not None:
        raise XgapError(f"a template has {{}} where the class name goes, and {without!r} has not")
    return [partial(_filled, template) for template in given]


def _filled(template: str, name: str) -> str:
    return template.replace("{}", name)


def _bare(caption: str, before: str, after: str) -> str:
    """The name in a caption that is the prompt with a name; any other caption as it is."""
    if not (caption.startswith(before) and caption.endswith(after) and len(caption) > len(before) + len(after)):
        return caption
    return caption[len(before) : len(caption) - len(after)]
