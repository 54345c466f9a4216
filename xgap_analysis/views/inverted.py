"""Inverted views: image features found as points of the text space (OTI), text features in the image space (OVI)."""

from typing import Any

from xgap_analysis.core.features import Features
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.view import register_view


@register_view("oti", modality="image", space="text", by_item=True)
@register_view("ovi", modality="text", space="image", by_item=True)
def inverted(
    model: Any,
    items: Any,
    *,
    steps: int | None = None,
    tokens: int | None = None,
    template: str = "a photo of {}",
    seed: int = 42,
    stop: str | float = "fixed",
    start: str = "normal",
    optimiser: str = "adamw",
    on_error: str = "raise",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """The features of an item's inversion; the options are those of `invert`, whose defaults are the paper's.

    Example:
        >>> import xgap_analysis as xg
        >>> texts = xg.Texts(["t1"], ["a cat"])
        >>> xg.view("ovi(steps=2)")(xg.load_model("tiny"), texts).space
        'image'
    """
    own = encode(model, items, on_error=on_error, store=store, progress=progress)
    made = invert(
        model,
        own,
        steps=steps,
        tokens=tokens,
        template=template,
        seed=seed,
        stop=stop,
        start=start,
        optimiser=optimiser,
        store=store,
        progress=progress,
    )
    return made.features
