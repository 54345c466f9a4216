"""ComCLIP: the whole image, and the sub-images of the words of a text, weighed by a ratio."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import NO_DIRECTION
from xgap_analysis.scoring.reductions import ratio
from xgap_analysis.scoring.scorer import register_scorer
from xgap_analysis.scoring.tokens import TokenBlock, similarities


@register_scorer("comclip", takes="tokens")
def comclip(query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b m"]:
    """The cosine of a text with an image to which the sub-images of the text's entities are added.

    The first token of an item is the item as a whole (text, image); the others are its entities (words, regions; see
    `stacked`). Each word k chooses its sub-image, the most similar one. Formula: `w_k = s_k / sum_j
    s_j` with `s_k = t_k . v_k`, `v' = v_0 + sum_k w_k v_k`, score = `cos(t_0, v')`. Only the image is composed.

    Where a text has no word or an image no sub-image, the score is the cosine of the wholes. Where the similarities add
    up to nothing or less, or absolute weights to more than 10, the words weigh equally.

    How to read it: in [-1, 1]; higher is nearer. An image whose sub-images all equal it keeps its cosine. Not
    symmetric: query and gallery exchanged compose the other modality.

    Left out: the parser, captioner and masks that make words and sub-images, and the words' own names for regions (each
    region here is anyone's); the authors score the best 10 of the cosine: `rerank(cosine, comclip, depth=10)`.

    Args:
        query, gallery: blocks of tokens. Their `weights` are not read.

    Raises:
        XgapError: an image and sub-images that cancel out (the item is named).

    Example:
        >>> import torch, xgap_analysis as xg
        >>> text = xg.TokenFeatures(torch.eye(3)[[0, 1]], [0, 2], ["text"], "text", "text")
        >>> image = xg.TokenFeatures(torch.eye(3)[[0, 1, 2]], [0, 3], ["image"], "image", "image")
        >>> round(xg.score(text, image, "comclip").item(), 3)  # v' = v_0 + v_1
        0.707

    Source: Jiang et al., ComCLIP, NAACL 2024.
    """
    query, gallery = query.precise, gallery.precise
    values = similarities(query, gallery)  # [b, tq, tg, m]
    parts = gallery.mask.T.clone()  # [tg, m]
    parts[0] = gallery.counts == 1  # an item of one token stands for its own part
    best, chosen = values.masked_fill(~parts, -torch.inf).max(dim=2)  # [b, tq, m]
    words = query.mask.clone()
    words[:, 0] = False
    weight = ratio(best, words[:, :, None], 1)
    share = torch.zeros_like(values).scatter(2, chosen[:, :, None], weight[:, :, None]).sum(dim=1)  # [b, tg, m]
    share = share.masked_fill((gallery.counts == 1)[None, None], 0)
    share[:, 0] += 1
    length = torch.einsum("bsm,mst,btm->bm", share, gallery.gram, share).clamp_min(0).sqrt()
    none = (length <= NO_DIRECTION * share.abs().sum(dim=1)).nonzero()
    if len(none):
        what = f"{gallery.name(int(none[0, 1]))} and its sub-images cancel out and have no direction"
        raise XgapError(f"{what}; leave the item out")
    return (share * values[:, 0]).sum(dim=1) / length
