"""Features of items of several modalities as one set, and which modalities each row is made from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures

MADE_FROM = "made_from"  # in the provenance of features: by modality, the share that it has in each item


def mixed(*sets: Features) -> Features:
    """The rows of all sets, one behind the other: a gallery of several modalities.

    Its origin and space are those of all sets (`"image+text"`), so that an item of any of them is left out of its own
    ranking. Corrections are fitted for one space: apply them to each set first.

    Args:
        sets: `[n_i, d]` each, of one modality or of several, with ids that are distinct in all sets together.

    Returns:
        `[n, d]`, n the sum of n_i; see `shares_of` for the modality of each row.

    Raises:
        XgapError: no set, sets of different dimensions, an id in two of them, or ids that are numbers of rows.

    Example:
        >>> import numpy as np
        >>> images = Features(np.eye(3)[:2], ["a.jpg", "b.jpg"], space="image", origin="image")
        >>> texts = Features(np.eye(3)[2:], ["a caption"], space="text", origin="text")
        >>> gallery = mixed(images, texts)
        >>> gallery.origin, len(gallery), shares_of(gallery)["text"].tolist()
        ('image+text', 3, [0.0, 0.0, 1.0])
    """
    if not sets:
        raise XgapError("a mixed gallery needs one set of features or more")
    dims = {features.dim for features in sets}
    if len(dims) > 1:
        raise XgapError(
            f"the sets of a mixed gallery have {' and '.join(map(str, sorted(dims)))} dimensions; they differ"
        )
    numbered = next((features for features in sets if features.numbered), None)
    if numbered is not None and len(sets) > 1:
        what = f"the {numbered.origin} rows of a mixed gallery are known by their numbers, which other sets have too"
        raise XgapError(f'{what}; give them names, as in xg.Features(vectors, ["{numbered.origin} 0", ...], ...)')
    twice = next((i for i, n in Counter(i for features in sets for i in features.ids).items() if n > 1), None)
    if twice is not None:
        of = " and ".join(features.origin for features in sets if twice in features.ids)
        raise XgapError(f"id {twice!r} stands for two items of a mixed gallery ({of}); give each an id of its own")
    known = {features.items for features in sets}
    if len(known) > 1:
        raise XgapError(
            "the sets of a mixed gallery name different sets of items (`Features.items`); give all one name"
        )
    device = sets[0].vectors.device
    made = Features(
        torch.cat([features.vectors.to(device) for features in sets]),
        [i for features in sets for i in features.ids],
        joined([features.space for features in sets]),
        joined([features.origin for features in sets]),
        without_digests(sets[0].provenance),
        known.pop(),
    )
    return with_shares(made, _shares(sets))


def joined(names: Sequence[str]) -> str:
    """The name of several modalities or spaces together: each once, in their order."""
    return "+".join(dict.fromkeys(part for name in names for part in name.split("+")))


def without_digests(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What made features, for others that are made of them: digests are of one set of rows, and say nothing of all."""
    return {key: value for key, value in provenance.items() if key not in ("digest", "entry")}


def with_shares(features: Features, shares: Mapping[str, Mapping[str, float]]) -> Features:
    """Features whose provenance says which modalities each item is made from.

    Args:
        features: of items.
        shares: modality to item id to the share that it has in the item, from 0 to 1; 0 where an id is not there.
    """
    return replace(features, provenance={**features.provenance, MADE_FROM: shares})


def shares_of(features: AnyFeatures) -> dict[str, Float[Tensor, " n"]]:
    """By modality, the share that it has in each item: 0 or 1 for images and texts, between them for documents.

    Args:
        features: of one modality, or those of `mixed`, of documents, or of their sections.

    Returns:
        Modality to `[n]` in double precision; the shares of an item add up to 1.

    Example:
        >>> import numpy as np
        >>> images = Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> shares_of(images)
        {'image': tensor([1., 1.], dtype=torch.float64)}
    """
    known: Mapping[str, Mapping[str, float]] | None = features.provenance.get(MADE_FROM)
    if known is None:
        return {features.origin: torch.ones(len(features), dtype=torch.float64)}
    return {
        modality: torch.tensor([of.get(i, 0.0) for i in features.ids], dtype=torch.float64)
        for modality, of in known.items()
    }


def kinds_of(features: AnyFeatures) -> dict[str, str]:
    """By item id, the modalities that an item is made from: `"image"`, `"text"`, or `"image+text"` of a document of
    both.

    Example:
        >>> import numpy as np
        >>> kinds_of(Features(np.eye(2), ["a", "b"], space="image", origin="image"))
        {'a': 'image', 'b': 'image'}
    """
    shares = shares_of(features)
    return {i: "+".join(m for m, of in shares.items() if of[row] > 0) for row, i in enumerate(features.ids)}


def _shares(sets: Sequence[Features | TokenFeatures]) -> dict[str, dict[str, float]]:
    made: dict[str, dict[str, float]] = {}
    for features in sets:
        for modality, of in shares_of(features).items():
            some = zip(features.ids, of.tolist(), strict=True)
            made.setdefault(modality, {}).update({i: share for i, share in some if share})
    return made
