"""Text towers without a language model: characters with attention, and bags of words."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, vocabulary
from xgap_analysis.models.adaptation.part import Part, whole_pass
from xgap_analysis.models.shadows import Shadow

LETTERS, OTHER = 100, 99  # ids of characters: 0 is padding, 1 to 95 the printable ones of ASCII, 99 all others


class Characters:
    """Captions to ids of characters `[n, length]`, padded with 0.

    Example:
        >>> Characters(5)(["ab", "longer"]).tolist()
        [[66, 67, 0, 0, 0], [77, 80, 79, 72, 70]]
    """

    def __init__(self, length: int) -> None:
        self._length = length

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Ids `[n, length]`."""
        ids = torch.zeros(len(captions), self._length, dtype=torch.long)
        for row, caption in zip(ids, captions, strict=True):
            own = [ord(c) - 31 if " " <= c <= "~" else OTHER for c in (caption or " ")[: self._length]]
            row[: len(own)] = torch.tensor(own)
        return ids

    def lengths(self, captions: Sequence[str]) -> list[int]:
        """How many characters captions have."""
        return [len(caption) for caption in captions]


class VectorAttention(nn.Module):
    """A weight for each time and each dimension: `sum over t of softmax_t(W2 tanh(W1 h_t)) * h_t`.

    Args:
        dim: d of a state.
        hidden: of W1; it has `2 d hidden + hidden + d` parameters.

    Source: Merkx and Frank, Learning semantic sentence representations from visually grounded language without lexical
    knowledge, Natural Language Engineering 2019.
    """

    def __init__(self, dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors `[n, d]` of states `[n, T, d]`, of which the mask `[n, T]` says which are there."""
        scores = self.out(torch.tanh(self.hidden(states)))
        weights = scores.masked_fill(~mask[..., None], float("-inf")).softmax(dim=1)
        return (weights * states).sum(dim=1)


class GroundedText(Part):
    """Characters, a recurrent network in both directions, and attention.

    Args:
        units: of the network in each direction.
        heads: of attention; a feature has `2 units heads` dimensions.
        length: characters of a caption.
    """

    replaces = True

    def __init__(self, units: int, heads: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(LETTERS, 20, padding_idx=0)
        self.rnn = nn.GRU(20, units, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleList([VectorAttention(2 * units) for _ in range(heads)])
        self.length = length

    def tokenizer(self, tokenize: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """See `Part.tokenizer`."""
        return Characters(self.length)

    def forward(self, ids: Tensor) -> Tensor:
        """Unit features `[n, d]` of ids of characters `[n, length]`."""
        mask = ids != 0
        with torch.autocast(ids.device.type, enabled=False):
            packed = pack_padded_sequence(self.embed(ids), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=ids.shape[1])
            return F.normalize(torch.cat([head(states, mask) for head in self.heads], dim=1), dim=1)

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        return [whole_pass(module, "text", self)]


class Behind(Part):
    """A map of a tower's features, inside it.

    Args:
        modality: of the tower.
        head: features `[n, d]` to `[n, e]`.
    """

    def __init__(self, modality: str, head: nn.Module) -> None:
        super().__init__()
        self.modality, self.head = modality, head

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        plain = getattr(module, f"encode_{self.modality}")
        return [whole_pass(module, self.modality, lambda batch: self.head(plain(batch).float()))]


@register_adapter("grounded", place="tower", starts_as_base=())
def grounded(base: Backbone, *, units: int = 1024, heads: int = 2, length: int = 128) -> Mapping[str, nn.Module]:
    """A text tower that reads characters, trained with images: a recurrent network with attention.

    It knows no words but by what was seen with them, so it is a lower anchor for the structure of texts. The image
    tower gets a linear map into its space. Train it with the objective `ranking-margin`.

    Args:
        base: any model with an image tower of open_clip's.
        units: of the network in each direction.
        heads: of attention; features have `2 units heads` dimensions.
        length: characters of a caption.

    Raises:
        XgapError: a size below 1.

    Source: Merkx and Frank, Learning semantic sentence representations from visually grounded language without lexical
    knowledge, Natural Language Engineering 2019. There padding takes part in the attention, here it does not.
    """
    if min(units, heads, length) < 1:
        raise XgapError(f"units, heads and length of grounded are 1 or more, not {units}, {heads}, {length}")
    image = Behind("image", nn.Linear(base.dims["image"], 2 * units * heads))
    return {"image": image, "text": GroundedText(units, heads, length)}


def mlp(sizes: Sequence[int]) -> nn.Module:
    """Linear maps of these sizes, with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class BagOfWords(Part):
    """A network over how often each token occurs in a caption.

    Args:
        network: counts `[n, V]` to features `[n, e]`.
        vocabulary: V.
        special: ids that are no words.
    """

    replaces = True

    def __init__(self, network: nn.Module, vocabulary: int, special: Tensor) -> None:
        super().__init__()
        self.network, self.vocabulary = network, vocabulary
        self.register_buffer("special", special, persistent=False)

    def counts(self, ids: Tensor) -> Tensor:
        """How often each id `[n, V]` occurs in ids `[n, length]`; special ones count nothing."""
        made = torch.zeros(len(ids), self.vocabulary, device=ids.device)
        made.scatter_add_(1, ids, torch.ones_like(ids, dtype=made.dtype))
        assert isinstance(self.special, Tensor)
        made[:, self.special.to(ids.device)] = 0
        return made

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        return [whole_pass(module, "text", lambda ids: self.network(self.counts(ids)))]


@register_adapter("matching", place="tower", starts_as_base=())
def matching(base: Backbone, *, dim: int = 256, hidden: int | None = 512) -> Mapping[str, nn.Module]:
    """Image features and bags of words, each mapped by a network into a common space.

    Train it with the objective `ranking-margin`, over all pairs of a batch.

    Args:
        base: any model of open_clip's; its image features and its tokenizer are used.
        dim: e of the common space.
        hidden: of the layer between; None for two linear maps.

    Raises:
        XgapError: a size below 1.

    Source: Deep Learning Applied to Image and Text Matching, 2015 (the abstract; its sizes and margin are not known
    here).
    """
    if min(dim, 1 if hidden is None else hidden) < 1:
        raise XgapError(f"dim and hidden of matching are 1 or more, not {dim} and {hidden}")
    between = [] if hidden is None else [hidden]
    special, words = base.ids([""]).unique(), vocabulary(base.module)
    image = Behind("image", mlp([base.dims["image"], *between, dim]))
    return {"image": image, "text": BagOfWords(mlp([words, *between, dim]), words, special)}
