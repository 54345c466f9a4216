"""Sets of vectors: the patches of an image, the words of a text, or the parts that items say they consist of."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import without_digests
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.datasets.items import Texts
from xgap_analysis.models.precision import without_tf32
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import Model, tokens_of
from xgap_analysis.store import Store
from xgap_analysis.views.batches import Passage, batches, on_device, source_of
from xgap_analysis.views.encode import encode
from xgap_analysis.views.listing import Listed, as_items, digest_of_list, has_ids
from xgap_analysis.views.view import register_view


def tokens(
    model: Model,
    items: Listed,
    part: str | None = None,
    *,
    store: Store | str | None = "default",
    progress: bool = True,
) -> TokenFeatures:
    """Several vectors per item: its patches or words, or its parts, each encoded by itself.

    Args:
        model: whose tower gives tokens (see `models.tower.Tower`), or encodes the parts.
        items: as of `encode`.
        part: the name of parts that the items have (`"regions"`, `"frames"`; see `Items.parts_of`). None takes the
            tower's own tokens of each item: the patches of an image, the words of a text, through the tower's last
            layers and head. No loss has trained those of most models to lie near the features of the other modality.
        store: where features of parts are kept; see `encode`. A tower's own tokens are computed each time.
        progress: as of `encode`.

    Returns:
        `TokenFeatures` in the items' order, in the space of the tower.

    Raises:
        XgapError: a tower without tokens, an item without one (a text without words), or no parts of that name.

    Example:
        >>> import xgap_analysis as xg
        >>> words = xg.tokens(xg.load_model("tiny"), ["bear", "a photo of a bear"])
        >>> len(words.tokens_of("1")) > len(words.tokens_of("0")) >= 1
        True
    """
    given = as_items(items)
    if not len(given):
        raise XgapError("there is nothing to encode: the split or list is empty")
    if part is None:
        return _hidden(model, given, items)
    if not hasattr(given, "parts_of"):
        raise XgapError(f"these {given.modality}s have no parts: they are known by their features alone")
    own = given.parts_of(part)
    features = encode(model, own.items, store=store, progress=progress)
    ends = [own.places[item].stop for item in given.ids]
    return TokenFeatures(
        features.vectors,
        torch.tensor([0, *ends]),
        given.ids,
        features.space,
        given.modality,
        {**without_digests(features.provenance), "tokens": part},
    )


def _hidden(model: Model, items: Any, given: Listed) -> TokenFeatures:
    """The tokens of a tower, item by item."""
    sets: list[Tensor] = []
    with torch.inference_mode(), Passage(model, items) as way, without_tf32(model.device):
        for content, n in _contents(way):
            with suited(way.tower, n, model.device):
                made, mask = tokens_of(way.tower, on_device(content, model.device), n, model.device)
            sets += [each[own].cpu() for each, own in zip(made, mask, strict=True)]
    about = {"model": model.name, "weights": model.weights_digest, "fingerprint": model.fingerprint}
    about |= {"precision": model.precision, "tokens": "hidden"}
    one_list = "" if has_ids(given) else digest_of_list(given, source_of(way).contents)
    return TokenFeatures.from_sets(sets, items.ids, way.tower.space, items.modality, about, one_list)


def _contents(way: Passage) -> Iterator[tuple[Any, int]]:
    """Batches as the tower prepares them, and the number of items in each."""
    if isinstance(way.items, Texts) and hasattr(way.tower, "tokenize"):
        ids = way.tower.tokenize(list(way.items.captions))  # at once, so that captions that are cut are counted once
        yield from ((part, len(part)) for part in ids.split(way.size))
    else:
        yield from ((batch.content, batch.size) for batch in batches(way, range(len(way.items))))


def _view_of(part: str | None) -> Callable[..., TokenFeatures]:
    def made(model: Any, items: Any, *, store: Store | str | None = "default", progress: bool = True) -> TokenFeatures:
        return tokens(model, items, part, store=store, progress=progress)

    what = "patches or words, as its tower gives them" if part is None else f"{part}, each encoded by itself"
    made.__doc__ = f"One vector for each part of an item: its {what}; see `tokens`."
    return made


def register_parts(name: str, *, modality: str, space: str | None = None) -> None:
    """Make the parts of items, by name, a view of that name: one vector for each part.

    Args:
        name: of the parts, as in `Items.parts`.
        modality: of the items.
        space: of the parts' tower; the modality by default.

    Example:
        >>> import xgap_analysis as xg
        >>> from xgap_analysis.views.view import VIEWS
        >>> xg.register_parts("scene-parts", modality="image")  # a view of the vectors of these parts of an image
        >>> str(xg.view("scene-parts"))
        'scene-parts'
        >>> VIEWS.remove("scene-parts")  # for this example only
    """
    register_view(name, modality=modality, space=space, by_item=True)(_view_of(name))


register_view("patches", modality="image")(_view_of(None))
register_view("words", modality="text")(_view_of(None))
register_parts("regions", modality="image")
register_parts("captions", modality="text")
register_parts("frames", modality="video", space="image")
register_parts("names", modality="audio")
