"""Retrieval: full rankings of a gallery by a scorer, read one block of queries at a time."""

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xgap_analysis.core.counts import check_cutoffs
from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.precision import computable, exact, widest
from xgap_analysis.core.relevance import BoundRelevance, Relevance, RelevanceLike, as_relevance
from xgap_analysis.core.tokens import AnyFeatures, ScoredLike, scored_pair
from xgap_analysis.metrics.block_ranks import Ranks
from xgap_analysis.metrics.ranks import relevant_ranks
from xgap_analysis.scoring.blocks import ScoreNormaliser
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

CUTOFF = 10  # of nDCG and mP
_COUNTED: ContextVar[bool] = ContextVar("whether the caller counts queries without a relevant item", default=False)


@contextlib.contextmanager
def counted_elsewhere() -> Iterator[None]:
    """Within, in this thread, queries without a relevant item raise no warning, since the caller counts them.

    The filters of `warnings` belong to the process, and explorers compute on threads.
    """
    before = _COUNTED.set(True)
    try:
        yield
    finally:
        _COUNTED.reset(before)


def retrieval(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    ks: Sequence[int] = (1, 5, 10),
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """How well the relevant gallery items are ranked by cosine similarity; one row per query.

    Other cut-offs of precision, average precision, nDCG and mP, and nDCG with exponential gains: `metrics.cutoffs`.

    Every item is ranked by descending similarity, and equal similarities keep the gallery's order. Junk items, and the
    query itself where its id is in the gallery, are taken out of the ranking first. R is the number of relevant items
    left, `rel(i)` says whether rank i (from 1) is relevant, `P(i)` is the precision of the first i ranks.

    | column | formula | range, good end |
    |---|---|---|
    | `n_relevant` | R | 0 .. n_gallery |
    | `ap` | mean of P over the ranks of the R relevant items (average precision over the full ranking) | (0, 1], 1 |
    | `ap_at_r` | `sum over i <= R of P(i) rel(i) / R` (MAP@R; Musgrave et al., 2020, section 4) | [0, 1], 1 |
    | `r_precision` | P(R) | [0, 1], 1 |
    | `hit_at_k` | 1 if a relevant item is among the first k | 0 or 1, 1 |
    | `recall_at_k` | share of the R relevant items among the first k | [0, 1], 1 |
    | `ndcg_at_10` | `sum over i <= 10 of grade(i) / log2(i + 1)`, over its best (linear, as trec_eval) | [0, 1], 1 |
    | `mp_at_10` | P(min(10, rank of the last relevant item)) (Radenovic et al., 2018, and their code) | [0, 1], 1 |

    Args:
        query: `[n, d]`, the queries; `Features`, or an array, whose ids are its positions (see `as_features`).
        gallery: `[m, d]` what is ranked; the same array again is the same items.
        relevance: a `Relevance`, a `Dataset` (for its default label set), a mapping from id to label,
            a pair of lists of labels (of the query, of the gallery), or one list for both where they are the same items
            (see `as_relevance`).
        ks: cut-offs of `hit_at_k` and `recall_at_k`.
        exclude_self: take the gallery item with the query's id out of its ranking, where both are of the same items
            (`Features.has_items_of`): an image and a caption of one id are two items, as are the rows of one number in
            two files; an image and its OTI feature are one.
        block: queries ranked at a time, and no number depends on it. By default as many as fit half a GiB (memory
            grows with `block * m`; see `block_of`).
        normalise: changes a block of similarities `[b, m]` before the ranking (a hubness correction, say); what is
            left out of a row's ranking comes as minus infinity, and each row must depend on its own query only.
        scorer: how a pair is scored: a name (`"cosine"`), with options or without, or a function of one block (see
            `xgap_analysis.scoring`). Cosine ranks are exact.

    Returns:
        n rows, indexed by query id ("query"), all columns numeric; with `ap_trapezoid` besides (see `revisited`) where
        the relevance names junk. A query without a relevant item has `n_relevant` 0
        and NaN elsewhere, so that means leave it out; `attrs["without_relevant"]` and a warning count them.
        Where all that is ranked is relevant to every query (one class, say), a warning and `attrs["degenerate"]` say
        that the scores are 1 whatever the features are.

    Raises:
        XgapError: no queries or items, different dimensions, labels that do not fit, or no query with a relevant item.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> table = xg.retrieval(images, images, ["cat", "cat", "dog"])
        >>> table["ap"].tolist()  # the third query has no relevant item in its gallery
        [1.0, 1.0, nan]
    """
    query, gallery = scored_pair(query, gallery)
    bound = as_relevance(relevance, query, gallery)
    measure = partial(measured, ks=ks)
    frame = per_query(query, gallery, bound, measure, ks, exclude_self, block, normalise, scorer)
    return frame if bound.junk else frame.drop(columns="ap_trapezoid")


def revisited(
    query: ScoredLike,
    gallery: ScoredLike,
    easy: Mapping[str, Collection[str]],
    hard: Mapping[str, Collection[str]],
    junk: Mapping[str, Collection[str]],
    *,
    ks: Sequence[int] = (1, 5, 10),
    block: int | None = None,
) -> pd.DataFrame:
    """The easy, medium and hard protocols of the revisited Oxford and Paris sets; one row per query.

    | protocol | relevant | taken out of the ranking |
    |---|---|---|
    | easy | easy | junk, hard |
    | medium | easy, hard | junk |
    | hard | hard | junk, easy |

    The columns are those of `retrieval`, and `ap_trapezoid`, the average precision of the authors' code: at each
    relevant item, the mean of the precision at its rank and at the rank before (1 before the first rank). Published
    numbers of these sets are means of it; it is never far from `ap`.

    Args:
        query, gallery: `[n, d]` and `[m, d]`.
        easy, hard, junk: query id to gallery ids.
        ks, block: as in `retrieval`.

    Returns:
        n rows and two levels of columns: protocol, metric. `attrs["without_relevant"]` counts, for each protocol, the
        queries that it has no relevant item for.

    Raises:
        XgapError: as `retrieval`, for any of the protocols.

    Source: Radenovic, Iscen, Tolias, Avrithis, Chum, Revisiting Oxford and Paris, CVPR 2018, section 4.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> queries = xg.Features(np.array([[1.0, 0.0]]), ["q"], space="image", origin="image", items="queries")
        >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> gallery = xg.Features(vectors, ["a", "b", "c"], space="image", origin="image")
        >>> grades = {"easy": {"q": ["b"]}, "hard": {"q": ["c"]}, "junk": {"q": ["a"]}}
        >>> table = xg.metrics.revisited(queries, gallery, **grades)
        >>> {protocol: float(table[protocol, "ap"].iloc[0]) for protocol in ("easy", "medium", "hard")}
        {'easy': 1.0, 'medium': 1.0, 'hard': 1.0}
    """
    query, gallery = scored_pair(query, gallery)
    protocols = {"easy": ([easy], [junk, hard]), "medium": ([easy, hard], [junk]), "hard": ([hard], [junk, easy])}
    frames = {}
    for name, (wanted, left_out) in protocols.items():
        qrels = {q: {item: 1.0 for of in wanted for item in of.get(q, ())} for q in query.ids}
        ignored = {q: [item for of in left_out for item in of.get(q, ())] for q in query.ids}
        relevance = Relevance.from_qrels(qrels, ignored)
        measure, where = partial(measured, ks=ks), f"protocol {name}: "
        frames[name] = per_query(query, gallery, relevance, measure, ks, True, block, None, where=where)
    both = pd.concat(frames, axis=1, names=["protocol", "metric"])
    both.attrs = {"without_relevant": {name: f.attrs["without_relevant"] for name, f in frames.items()}}
    return both


def per_query(
    query: AnyFeatures,
    gallery: AnyFeatures,
    relevance: Relevance,
    measure: Callable[[Ranks], dict[str, Tensor]],
    ks: Sequence[int],
    exclude_self: bool,
    block: int | None,
    normalise: ScoreNormaliser | None,
    scorer: str | Scorer | ScoreFunction = COSINE,
    where: str = "",
) -> pd.DataFrame:
    """One row per query of what `measure` makes of each block of ranks, `n_relevant` among it; see `retrieval`."""
    check_cutoffs(ks)
    bound = relevance.bind(query.ids, gallery.ids)
    apart = exclude_self and query.has_items_of(gallery)
    ranked = relevant_ranks(query, gallery, bound, exclude_self=apart, block=block, normalise=normalise, scorer=scorer)
    parts = [measure(ranks) for ranks in ranked]
    columns = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    frame = pd.DataFrame(columns, index=pd.Index(query.ids, name="query"))
    without = int((frame["n_relevant"] == 0).sum())
    if without == len(frame):
        hint = ", other than itself" if apart else ""
        raise XgapError(f"{where}none of the {without} queries has a relevant item in the gallery{hint}")
    if without and not _COUNTED.get():
        text = f"{where}{without} of {len(frame)} queries have no relevant item; they are NaN, and left out of means"
        warnings.warn(text, stacklevel=3)
    frame.attrs["without_relevant"] = without
    frame.attrs["degenerate"] = ""
    if _is_certain(frame["n_relevant"].to_numpy(), bound, len(gallery), apart):
        why = f"{where}every gallery item is relevant to every query (is there one class only?)"
        frame.attrs["degenerate"] = f"{why}, so that the scores are 1 whatever the features are"
        notice(frame.attrs["degenerate"])
    return frame


def _is_certain(n_relevant: np.ndarray, bound: BoundRelevance, n_gallery: int, exclude_self: bool) -> bool:
    """Whether no ranking could score below 1: all that is ranked is relevant to each query that has relevant items."""

    def certain(start: int, stop: int) -> bool:
        row, column = (part.numpy() for part in bound.left_out(start, stop, exclude_self))
        cells = np.unique(row * n_gallery + column)
        ranked = n_gallery - np.bincount(cells // n_gallery, minlength=stop - start)
        own = n_relevant[start:stop]
        return bool(((own >= ranked) | (own == 0)).all())

    first = int(np.flatnonzero(n_relevant)[0])  # one look is enough almost always
    return certain(first, first + 1) and certain(0, len(n_relevant))


@dataclass(frozen=True, eq=False)
class Counted:
    """The relevant items of a block, counted.

    Args:
        row, rank, grade: of each, by row and then by rank (from 0); see `Ranks`.
        nth: `[r]`, how many relevant items are ranked before it in its row.
        n: `[queries]`, relevant items of each.
    """

    row: Tensor
    rank: Tensor
    grade: Tensor
    nth: Tensor
    n: Tensor

    @classmethod
    def of(cls, ranks: Ranks) -> "Counted":
        """The counts of a block, where double precision can be computed."""
        row, rank, grade = (computable(part) for part in (ranks.row, ranks.rank, ranks.grade))
        n = torch.bincount(row, minlength=ranks.queries)
        return cls(row, rank, grade, torch.arange(len(row), device=row.device) - (n.cumsum(0) - n)[row], n)

    @property
    def precision(self) -> Tensor:
        """`[r]`: P at the rank of each."""
        return exact(self.nth + 1) / (self.rank + 1)

    def total(self, values: Tensor) -> Tensor:
        """Sums `[queries]` over the relevant items of each query."""
        kept = torch.zeros(len(self.n), dtype=widest(self.row.device), device=self.row.device)
        return kept.index_add_(0, self.row, exact(values))

    def mp(self, k: int) -> Tensor:
        """P at k, or at the last relevant item where that comes before."""
        last = torch.zeros_like(self.n).scatter_reduce_(0, self.row, self.rank + 1, "amax").clamp(max=k)
        return self.total(self.rank < last[self.row]) / last

    def ndcg(self, k: int, gain: Callable[[Tensor], Tensor] = exact) -> Tensor:
        """The discounted gain of the first k, over that of the best ranking of all relevant items."""
        ideal = self.grade
        if len(ideal) and bool((ideal != ideal[0]).any()):
            order = ideal.argsort(descending=True)
            ideal = ideal[order[self.row[order].argsort(stable=True)]]  # each row's grades, the highest first
        found, best = (
            (rank < k) * gain(grade) / exact(rank + 2).log2()
            for grade, rank in ((self.grade, self.rank), (ideal, self.nth))
        )
        return self.total(found) / self.total(best)


def measured(ranks: Ranks, ks: Sequence[int]) -> dict[str, Tensor]:
    """The columns of `retrieval` for one block."""
    of = Counted.of(ranks)
    rank, nth, n, precision, total = of.rank, of.nth, of.n, of.precision, of.total
    before = torch.where(rank == 0, 1.0, exact(nth) / rank)
    # A query without relevant items divides 0 by 0 everywhere below: NaN, as it should be.
    return {
        "n_relevant": n,
        "ap": total(precision) / n,
        "ap_at_r": total(precision * (rank < n[of.row])) / n,
        "r_precision": total(rank < n[of.row]) / n,
        **{f"hit_at_{k}": total((rank < k) & (nth == 0)) / (n > 0) for k in ks},
        **{f"recall_at_{k}": total(rank < k) / n for k in ks},
        f"ndcg_at_{CUTOFF}": of.ndcg(CUTOFF),
        f"mp_at_{CUTOFF}": of.mp(CUTOFF),
        "ap_trapezoid": total((before + precision) / 2) / n,
    }
