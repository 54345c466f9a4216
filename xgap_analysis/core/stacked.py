"""Sets of tokens from features: several sets of the same items as one, and rows gathered by what they are parts of."""

from collections.abc import Mapping, Sequence

import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike, as_features
from xgap_analysis.core.table_values import id_text
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures, as_tokens


def stacked(first: AnyFeatures, *others: AnyFeatures) -> TokenFeatures:
    """The tokens of the first set, then those of the others, for each item of the first.

    So an image comes before its regions, a text before its words, or a reference image beside the text that changes it.

    Args:
        first: its ids, origin and set of items are those of the result.
        others: of the same ids, in any order; those that the first does not have are left out.

    Returns:
        In the space of all, or, where they lie in several, in one that is named for them (`"image+text"`). Weights are
        kept where all have them.

    Raises:
        XgapError: an item that one of the others lacks, or another width.

    Example:
        >>> import torch
        >>> from xgap_analysis.core.features import Features
        >>> image = Features(torch.eye(3)[:1], ["a"], "image", "image")
        >>> regions = TokenFeatures(torch.eye(3)[1:], [0, 2], ["a"], "image", "image")
        >>> stacked(image, regions).vectors.tolist() == torch.eye(3).tolist()
        True
    """
    sets = [as_tokens(first), *(as_tokens(other).select(first.ids) for other in others)]
    other = next((s for s in sets if s.dim != sets[0].dim), None)
    if other is not None:
        raise XgapError(f"sets of {sets[0].dim} and of {other.dim} dimensions cannot be one; they must be the same")
    device = sets[0].vectors.device
    owner = torch.cat([torch.repeat_interleave(torch.arange(len(s)), s.lengths) for s in sets])
    order = owner.argsort(stable=True).to(device)
    lengths = torch.stack([s.lengths for s in sets]).sum(dim=0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    vectors, norms = (torch.cat([getattr(s, name).to(device) for s in sets])[order] for name in ("vectors", "norms"))
    kept = [s.weights.to(device) for s in sets if s.weights is not None]
    return TokenFeatures(
        vectors,
        offsets,
        first.ids,
        "+".join(dict.fromkeys(s.space for s in sets)),
        first.origin,
        first.provenance,
        first.items,
        weights=torch.cat(kept)[order] if len(kept) == len(sets) else None,
        norms=norms,
    )


def grouped(features: FeaturesLike, wholes: Mapping[str, object] | Sequence[object]) -> TokenFeatures:
    """The rows of features as tokens of what they are parts of: snippets of their pieces, pages of their documents.

    Formula: item w has the rows whose whole is w, in their order; wholes come in the order of their first row.

    Args:
        features: `[n, d]`, a row for each part; `Features`, or an array.
        wholes: the whole of each row, in the rows' order; or a mapping from the id of a row.

    Returns:
        One item for each whole, under its name, with all of its rows as tokens.

    Raises:
        XgapError: a row without a whole, or another number of them than of rows.

    Example:
        >>> import numpy as np
        >>> pieces = grouped(np.eye(3), ["a", "b", "a"])
        >>> pieces.ids, pieces.lengths.tolist()
        (('a', 'b'), [2, 1])
    """
    rows = as_features(features)
    if isinstance(wholes, Mapping):
        missing = next((item for item in rows.ids if item not in wholes), None)
        if missing is not None:
            raise XgapError(f"row {missing!r} belongs to nothing: the mapping has no entry of that id")
        wholes = [wholes[item] for item in rows.ids]
    names = [id_text(whole) for whole in wholes]
    if len(names) != len(rows):
        raise XgapError(f"{len(names)} names were given for {len(rows)} rows; each row is a part of one whole")
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    owner = torch.tensor([place[name] for name in names], dtype=torch.long)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), torch.bincount(owner, minlength=len(place)).cumsum(0)])
    vectors = rows.vectors[owner.argsort(stable=True).to(rows.vectors.device)]
    return TokenFeatures(vectors, offsets, list(place), rows.space, rows.origin, rows.provenance)
