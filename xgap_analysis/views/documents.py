"""Documents of texts and images in order, and galleries of several modalities, as features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.mixed import MADE_FROM, joined, mixed, without_digests
from xgap_analysis.core.precision import exact
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures
from xgap_analysis.datasets.joined import SECTION, of_these, sections_of
from xgap_analysis.store import Store
from xgap_analysis.views.native import native_view
from xgap_analysis.views.view import View, register_view

TEXT = "text"  # the modality whose weight is given, where a section has a text and something else

Map = Callable[[Features], Features]


@register_view("sections", modality="document", by_item=True)
def sections(
    model: Any,
    items: Any,
    *,
    weight: float = 0.5,
    transform: Map = lambda features: features,
    store: Store | str | None = "default",
    progress: bool = True,
) -> TokenFeatures:
    """One vector for each section of a document, in the order of the sections.

    Formula: a section of one text or image has its features; one of several has `u(a t + (1 - a) v)`, t the mean of the
    features of its texts (tables among them), v that of all else, u the scaling to unit length.

    Args:
        model: with the towers of all parts.
        items: with parts that have a column `section`, of any modalities (`emoji-scenes:documents`).
        weight: a, the share of the text in a section that has a text and something else, in [0, 1].
        transform: applied to the features of each modality before they are put together: a correction is made for one
            space, and sections lie in several.
        store, progress: as of `encode`.

    Returns:
        `TokenFeatures` whose space names all modalities (`image+text`); see `shares_of` for the share of each.

    Raises:
        XgapError: a document without sections, or a weight out of range.

    Source: IDentIfy (Lee et al., Unified multi-modal interleaved document representation for information retrieval,
    2024); late fusion stands where it has one vision-language model for a whole section.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji-scenes:documents").split("seen")
        >>> made = xg.view("sections")(xg.load_model("oracle"), data.items["document"], store=None, progress=False)
        >>> made.space, int(made.lengths.min()), int(made.lengths.max())
        ('image+text', 2, 4)
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise XgapError(f"the weight of sections, the share of the text, lies in [0, 1], not {weight!r}")
    place = {item: row for row, item in enumerate(items.ids)}
    sets, places, numbers, modalities = [], [], [], []
    for own in sections_of(items).values():
        made = native_view(own.modality)(model, own.items, store=store, progress=progress)
        assert isinstance(made, Features)  # one vector per item
        sets.append(transform(made))
        places += [place[owner] for owner in own.owners]
        numbers += [_number(section) for section in own.columns[SECTION]]
        modalities += [own.modality] * len(own)
    keys = np.array(list(zip(places, numbers, strict=True)))
    found, inverse = np.unique(keys, axis=0, return_inverse=True)
    section = torch.from_numpy(inverse.reshape(-1))
    device = sets[0].vectors.device
    vectors = torch.cat([exact(features.vectors.to(device)) for features in sets])
    said = torch.tensor([modality == TEXT for modality in modalities])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(found[:, 0], minlength=len(items.ids)))])
    return TokenFeatures(
        _fused(vectors, section, said, len(found), weight),
        offsets,
        items.ids,
        joined([features.space for features in sets]),
        items.modality,
        {**without_digests(sets[0].provenance), MADE_FROM: _shares(items.ids, keys[:, 0], section, modalities)},
    )


@register_view("document", modality="document", by_item=True)
def document(
    model: Any,
    items: Any,
    *,
    weight: float = 0.5,
    transform: Map = lambda features: features,
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """One vector for each document: the direction of the mean of its sections.

    Formula: `d = u(mean over sections of s)`, s as `sections` gives them, so that `cos(q, d)` is the mean cosine of the
    sections over the length of their mean. With a share p of texts t and 1 - p of images v at an angle g, that length
    is `sqrt(p^2 + (1 - p)^2 + 2 p (1 - p) cos g)`.

    How to read it: a mean of images and texts lies between the two cones, so that queries of one modality prefer
    documents of that modality alone; see `modality_share`.

    Args:
        model, items, weight, transform, store, progress: as of `sections`.

    Raises:
        XgapError: as `sections`, or sections whose mean has no direction.

    Source: IDentIfy (Lee et al., Unified multi-modal interleaved document representation for information retrieval,
    2024); GR-CLIP (Li et al., 2025), whose documents of a text and an image are one section each.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji-scenes:documents").split("seen")
        >>> made = xg.view("document")(xg.load_model("oracle"), data.items["document"], store=None, progress=False)
        >>> len(made) == len(data.items["document"])
        True
    """
    how: dict[str, Any] = {"weight": weight, "transform": transform, "store": store, "progress": progress}
    made = sections(model, items, **how)
    assert isinstance(made, TokenFeatures)  # for type checkers, which know it as any view
    return made.pooled()


@register_view("mixed", modality=None)
def mixed_view(
    model: Any, items: Any, *views: View, transform: Map = lambda features: features, **context: Any
) -> Features:
    """Items of several modalities as one gallery, each by a view of its own: `mixed(image, text)`.

    Args:
        model, items: as of all views; the items of a dataset by the name `image+text`.
        views: one for each modality, of one vector per item.
        transform: applied to the features of each.
        context: offered to each view.

    Raises:
        XgapError: fewer than two views, or two of one modality.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji").split("val").limit(2)
        >>> made = xg.view("mixed(image, text)")(xg.load_model("tiny"), data.items_of("image+text"), progress=False)
        >>> len(made) == len(data.images) + len(data.texts)
        True
    """
    modalities = [v.modality if isinstance(v, View) else "" for v in views]
    if len(views) < 2 or "" in modalities or len(set(modalities)) < len(views):
        raise XgapError(
            f"mixed takes a view for each of several modalities, as in mixed(image, text), not {len(views)}"
        )
    return mixed(*(_made(v, model, of_these(items.parts[v.modality], items).items, transform, context) for v in views))


def _made(own: View, model: Any, items: Any, transform: Map, context: dict[str, Any]) -> Features:
    if own.takes("transform"):  # of several spaces
        made: AnyFeatures = own(model, items, transform=transform, **context)
    else:
        made = own(model, items, **context)
        made = transform(made) if isinstance(made, Features) else made
    if isinstance(made, Features):
        return made
    raise XgapError(f"mixed takes views of one vector per item, and {own} gives a set of vectors")


def _number(section: Any) -> int:
    if isinstance(section, bool) or not isinstance(section, int | np.integer):
        raise XgapError(f"sections of documents have whole numbers, in their order, not {section!r}")
    return int(section)


def _fused(vectors: Tensor, section: Tensor, said: Tensor, count: int, weight: float) -> Tensor:
    """The vectors of sections: the mean of a section's rows, texts against all others by their weight."""
    means, there = [], []
    for rows in (said, ~said):
        total = torch.zeros(count, vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        number = torch.bincount(section[rows], minlength=count)
        total.index_add_(0, section[rows].to(vectors.device), vectors[rows.to(vectors.device)])
        means.append(total / number.clamp(min=1).to(vectors.device)[:, None])
        there.append(number > 0)
    share = torch.where(there[0] & there[1], weight, there[0].to(vectors.dtype)).to(vectors.device)[:, None]
    return share * means[0] + (1 - share) * means[1]


def _shares(ids: Any, places: Any, section: Tensor, modalities: list[str]) -> dict[str, dict[str, float]]:
    """By modality and document, its share: sections count alike, and so do the rows of a section."""
    rows = exact(torch.bincount(section)[section])  # of each row's section
    number = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, torch.from_numpy(places), 1 / rows)
    made: dict[str, dict[str, float]] = {}
    for place, modality, of in zip(places.tolist(), modalities, rows.tolist(), strict=True):
        own = made.setdefault(modality, {})
        own[ids[place]] = own.get(ids[place], 0.0) + 1 / (of * float(number[place]))
    return made
