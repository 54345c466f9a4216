"""What a fitted scorer is: weights, what they were learned from, and a refusal of anything else's features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.rows import runs, score_rows
from xgap_analysis.scoring.scorer import Scorer, Takes
from xgap_analysis.scoring.tokens import TokenBlock, block_of_tokens

MODEL_KEYS = ("fingerprint", "weights", "model")  # of provenance, the surest first
MAPPED = 2**14  # tokens that a module reads at a time

TokenMap = Callable[[TokenBlock], Float[Tensor, "b q e"]]


@dataclass(frozen=True, eq=False)
class FittedOn:
    """The features that a scorer was fitted on.

    Args:
        query, gallery: their spaces; a scorer may have been said to take queries of several.
        dim: their width.
        split: what a table says that it was fitted on.
        provenance: of the query and of the gallery.
        items: origin, set of items and id of each.
    """

    query: tuple[str, ...]
    gallery: tuple[str, ...]
    dim: int
    split: str
    provenance: tuple[Mapping[str, Any], Mapping[str, Any]]
    items: frozenset[tuple[str, str, str]]

    @staticmethod
    def of(pairs: Paired, split: str, query_spaces: Sequence[str] | None = None) -> "FittedOn":
        """What these pairs are."""
        both = (pairs.query, pairs.gallery)
        used = ([row for of in pairs.queries_of for row in of], pairs.items.tolist())
        keys = {(of.origin, of.items, of.ids[row]) for of, rows in zip(both, used, strict=True) for row in rows}
        spaces = tuple(query_spaces or (pairs.query.space,))
        provenance = (pairs.query.provenance, pairs.gallery.provenance)
        return FittedOn(spaces, (pairs.gallery.space,), pairs.dim, split, provenance, frozenset(keys))

    def saw(self, features: Any) -> bool:
        """Whether any of these items was among those of the fit."""
        return any((features.origin, features.items, item) in self.items for item in features.ids)

    def check(self, scorer: str, query: TokenFeatures, gallery: TokenFeatures) -> None:
        """Refuses features of another width, space, model or correction than those of the fit.

        Where the features of either do not say which model made them, they may be of that model.
        """
        for name, spaces, there, here in (
            ("query", self.query, self.provenance[0], query),
            ("gallery", self.gallery, self.provenance[1], gallery),
        ):
            if here.dim != self.dim:
                what = f"scorer {scorer} was fitted on features of {self.dim} dimensions, and the {name} has {here.dim}"
                raise XgapError(f"{what}; fit it on features like these")
            if here.space not in spaces:
                what = f"scorer {scorer} was fitted on a {name} of space {' or '.join(map(repr, spaces))}"
                raise XgapError(f"{what}, and this one is of space {here.space!r}; fit it on features like these")
            key = next((k for k in MODEL_KEYS if there.get(k) and here.provenance.get(k)), None)
            if key is not None and there[key] != here.provenance[key]:
                of, other = (p.get("model", p[key]) for p in (there, here.provenance))
                what = f"scorer {scorer} was fitted on features of model {of!r}, and the {name} is of {other!r}"
                raise XgapError(f"{what}{' with other weights' if of == other else ''}; fit it on features like these")
            by = [p.get("correction", "none") for p in (there, here.provenance)]
            if by[0] != by[1]:
                what = f"scorer {scorer} was fitted on features of correction {by[0]!r}, and the {name} is of {by[1]!r}"
                raise XgapError(f"{what}; fit it on features like these")


@dataclass(frozen=True, eq=False)
class Fitted:
    """The function of a fitted scorer.

    Args:
        name: as in tables.
        module: holds all weights.
        scoring: scores with them.
        fitted_on: the features of the fit.
        losses: the mean loss of each epoch.
    """

    name: str
    module: nn.Module
    scoring: Scorer
    fitted_on: FittedOn
    losses: tuple[float, ...] = ()
    takes: ClassVar[Takes] = "features"

    @torch.no_grad()
    def __call__(self, query: TokenFeatures, gallery: TokenFeatures) -> Float[Tensor, "b m"]:
        """Scores of a block of queries with the whole gallery.

        Raises:
            XgapError: features unlike those of the fit.
        """
        self.fitted_on.check(self.name, query, gallery)
        self.module.to(query.vectors.device)
        return score_rows(query, gallery, self.scoring)


@dataclass(frozen=True, eq=False)
class Mapped:
    """The function of a scorer that maps the tokens of each item first; those of a gallery once, for all queries.

    Args:
        scoring: scores what the maps give.
        of_query, of_gallery: what the tokens of an item become; None keeps them.
    """

    scoring: Scorer
    of_query: TokenMap | None = None
    of_gallery: TokenMap | None = None
    _kept: "WeakKeyDictionary[TokenFeatures, TokenFeatures]" = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )
    takes: ClassVar[Takes] = "features"

    def __call__(self, query: TokenFeatures, gallery: TokenFeatures) -> Float[Tensor, "b m"]:
        """Scores of a block of queries with the whole gallery."""
        device = query.vectors.device
        if self.of_gallery is not None and gallery not in self._kept:
            self._kept[gallery] = mapped(gallery, self.of_gallery, device)
        after = gallery if self.of_gallery is None else self._kept[gallery]
        before = query if self.of_query is None else mapped(query, self.of_query, device)
        return score_rows(before, after, self.scoring)


def mapped(tokens: TokenFeatures, by: TokenMap, device: torch.device | None = None) -> TokenFeatures:
    """Each item's tokens after a map that gives as many vectors for every item, scaled to unit length.

    Raises:
        XgapError: a vector without a direction (the item is named).
    """
    device = device or tokens.vectors.device
    made, places = [], []
    for run in runs(tokens.lengths, MAPPED):
        made.append(by(block_of_tokens(tokens, run, device)))
        places.append(run)
    vectors = torch.cat(made)[torch.cat(places).argsort().to(device)]
    n, each, dim = vectors.shape
    about = (tokens.ids, tokens.space, tokens.origin, tokens.provenance, tokens.items)
    return TokenFeatures(vectors.reshape(n * each, dim), torch.arange(n + 1) * each, *about)
