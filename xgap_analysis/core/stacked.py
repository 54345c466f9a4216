"""Several sets of features of the same items as one set of tokens."""

import torch

from xgap_analysis.core.errors import XgapError
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
