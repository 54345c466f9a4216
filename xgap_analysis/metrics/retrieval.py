"""Retrieval: full rankings of a gallery by cosine similarity, read one block of queries at a time."""

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xgap_analysis.datasets.records import Relevance
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features

GALLERY_CHUNK = 4096  # gallery rows in double precision at a time: what a processor's cache holds
MOST_QUERIES = 256  # of a block: more gain no speed
CELL = 48  # bytes of working memory that one similarity costs its reader at most: masks, grades, copies
BUDGET = 2**29  # bytes of a block
BINS = 2**14  # of a row's scores, where the ranks of its relevant items are counted
CUTOFF = 10  # of nDCG and mP

ScoreNormaliser = Callable[[Tensor], Tensor]


@runtime_checkable
class HasRelevance(Protocol):
    """Anything that knows which items answer which, such as a `Dataset`."""

    def relevance(self) -> Relevance:
        """Its (default) relevance."""
        ...


def retrieval(
    query: Features,
    gallery: Features,
    relevance: Relevance | HasRelevance,
    *,
    ks: Sequence[int] = (1, 5, 10),
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
) -> pd.DataFrame:
    """How well the gallery's items that answer a query are ranked by cosine similarity; one row a query.

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
        query: `[n, d]` what is asked.
        gallery: `[m, d]` what is ranked.
        relevance: which items answer which; a `Dataset` stands for its default level.
        ks: cut-offs of `hit_at_k` and `recall_at_k`.
        exclude_self: take the gallery item with the query's id out of its ranking, where both sides have the same
            origin (an image and a caption of one id are two items; an image and its OTI feature are one).
        block: queries ranked at a time, and no number depends on it. By default as many as fit half a GiB (memory
            grows with `block * m`; see `block_of`).
        normalise: changes a block of similarities `[b, m]` before the ranking (a hubness correction, say); what is
            left out of a row's ranking comes as minus infinity, and each row must depend on its own query only.

    Returns:
        n rows, indexed by query id ("query"), all columns numeric; with `ap_trapezoid` besides (see `revisited`) where
        the relevance names junk. A query without a relevant item has `n_relevant` 0
        and NaN elsewhere, so that means leave it out; `attrs["without_relevant"]` counts them, and a warning tells.

    Raises:
        XgapError: an empty side, different dimensions, labels that do not fit, or no query with a relevant item.
    """
    if not isinstance(relevance, Relevance):
        relevance = relevance.relevance()
    frame = _evaluate(query, gallery, relevance, ks, exclude_self, block, normalise)
    return frame if relevance.junk else frame.drop(columns="ap_trapezoid")


def revisited(
    query: Features,
    gallery: Features,
    easy: Mapping[str, Collection[str]],
    hard: Mapping[str, Collection[str]],
    junk: Mapping[str, Collection[str]],
    *,
    ks: Sequence[int] = (1, 5, 10),
    block: int | None = None,
) -> pd.DataFrame:
    """The easy, medium and hard protocols of the revisited Oxford and Paris sets; one row a query.

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
    """
    protocols = {"easy": ([easy], [junk, hard]), "medium": ([easy, hard], [junk]), "hard": ([hard], [junk, easy])}
    frames = {}
    for name, (wanted, left_out) in protocols.items():
        qrels = {q: {item: 1.0 for of in wanted for item in of.get(q, ())} for q in query.ids}
        ignored = {q: [item for of in left_out for item in of.get(q, ())] for q in query.ids}
        relevance = Relevance.from_qrels(qrels, ignored)
        frames[name] = _evaluate(query, gallery, relevance, ks, True, block, None, where=f"protocol {name}: ")
    both = pd.concat(frames, axis=1, names=["protocol", "metric"])
    both.attrs = {"without_relevant": {name: f.attrs["without_relevant"] for name, f in frames.items()}}
    return both


def similarities(
    query: Features, gallery: Features, *, block: int | None = None
) -> Iterator[tuple[int, int, Float[Tensor, "b m"]]]:
    """Cosine similarities `[b, m]` of the queries `start` to `stop` to the whole gallery, one block at a time.

    They are float32, rounded from a double-precision product: similarities that are equal then stay equal whatever
    the block's size, the device and the order of the sum. A float32 product parts about a third of the ties of
    quantised vectors, and changes its last bits with the block.

    Raises:
        XgapError: an empty side, different dimensions, or a block below 1.
    """
    if not len(query) or not len(gallery):
        raise XgapError(f"the {'query' if not len(query) else 'gallery'} side is empty")
    if query.dim != gallery.dim:
        raise XgapError(f"the query has {query.dim} dimensions and the gallery {gallery.dim}; they must be the same")
    block = block_of(len(gallery)) if block is None else block
    if block < 1:
        raise XgapError(f"block must be at least 1, not {block}")
    for start in range(0, len(query), block):
        rows = query.vectors[start : start + block].double()
        scores = torch.empty(len(rows), len(gallery), device=rows.device)
        for first in range(0, len(gallery), GALLERY_CHUNK):
            chunk = gallery.vectors[first : first + GALLERY_CHUNK].to(rows.device).double()
            scores[:, first : first + len(chunk)] = rows @ chunk.T
        yield start, start + len(rows), scores


def block_of(columns: int, cell: int = CELL, most: int = MOST_QUERIES) -> int:
    """The rows of a block that its `cell` bytes a number keep within half a GiB, and a gallery chunk of a block beside.

    A gallery of 1,280,000 leaves 8 rows a block; a gallery of more than 11 million, one row, which then takes more.
    """
    return max(1, min(most, BUDGET // (cell * max(1, columns))))


def descending(scores: Float[Tensor, "b m"]) -> Int[Tensor, "b m"]:
    """The columns of each row by descending score; equal scores keep the columns' order. No score may be NaN."""
    if scores.device.type != "cpu":
        return scores.sort(dim=1, descending=True, stable=True).indices
    # One 64-bit key a cell, the score's bits (made to sort as integers) above its column: no two keys are equal, so
    # numpy's vectorised sort, which is not stable, gives the stable order in a fifth of the time of torch's.
    bits = (np.float32(0) - scores.numpy()).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(scores.shape[1])
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)


def blocks(
    query: Features, gallery: Features, relevance: Relevance | HasRelevance, *, exclude_self: bool, block: int | None
) -> Iterator[tuple[Float[Tensor, "b m"], Float[Tensor, "b m"], Bool[Tensor, "b m"]]]:
    """Similarities, grades, and what is left out of the ranking, one block of queries at a time."""
    if not isinstance(relevance, Relevance):
        relevance = relevance.relevance()
    bound = relevance.bind(query.ids, gallery.ids)
    exclude_self = exclude_self and query.origin == gallery.origin  # an image and its caption may share an id
    for start, stop, scores in similarities(query, gallery, block=block):
        grades = bound.grades(start, stop).to(scores.device)
        yield scores, grades, bound.ignored(start, stop, exclude_self).to(scores.device)


def _evaluate(
    query: Features,
    gallery: Features,
    relevance: Relevance | HasRelevance,
    ks: Sequence[int],
    exclude_self: bool,
    block: int | None,
    normalise: ScoreNormaliser | None,
    where: str = "",
) -> pd.DataFrame:
    if not all(k >= 1 for k in ks):
        raise XgapError(f"the cut-offs ks must be 1 or more, not {tuple(ks)}")
    parts = []
    for scores, grades, ignored in blocks(query, gallery, relevance, exclude_self=exclude_self, block=block):
        scores, grades = scores.masked_fill_(ignored, -math.inf), grades.masked_fill_(ignored, 0)
        if normalise is not None:
            shape, scores = scores.shape, normalise(scores).float()
            if scores.shape != shape or not bool((torch.isfinite(scores) | ignored).all()):
                raise XgapError(f"the score normaliser must give finite scores of shape {tuple(shape)}")
            scores = scores.masked_fill(ignored, -math.inf)
        parts.append(_measure(scores, grades, ks))
    columns = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    frame = pd.DataFrame(columns, index=pd.Index(query.ids, name="query"))
    without = int((frame["n_relevant"] == 0).sum())
    if without == len(frame):
        hint = " (exclude_self takes items with the query's id out)" if exclude_self else ""
        raise XgapError(f"{where}none of the {without} queries has a relevant item in the gallery{hint}")
    if without:
        text = f"{where}{without} of {len(frame)} queries have no relevant item; they are NaN, and left out of means"
        warnings.warn(text, stacklevel=3)
    frame.attrs["without_relevant"] = without
    return frame


def _measure(scores: Float[Tensor, "b m"], grades: Float[Tensor, "b m"], ks: Sequence[int]) -> dict[str, Tensor]:
    """The columns of `retrieval` for one block, from the ranks of the relevant items alone.

    What is left out of a ranking has a score of minus infinity and no grade.
    """
    row, rank, grade = _ranks(scores, grades)
    n = torch.bincount(row, minlength=len(scores))
    nth = torch.arange(len(row), device=row.device) - (n.cumsum(0) - n)[row]  # relevant items before it in its row

    def total(values: Tensor) -> Tensor:
        return torch.zeros(len(n), dtype=torch.float64, device=row.device).index_add_(0, row, values.double())

    precision = (nth + 1).double() / (rank + 1)
    before = torch.where(rank == 0, 1.0, nth.double() / rank)
    last = torch.zeros_like(n).scatter_reduce_(0, row, rank + 1, "amax").clamp(max=CUTOFF)
    ideal = grade.argsort(descending=True)
    ideal = ideal[row[ideal].argsort(stable=True)]  # each row's relevant items, the highest grade first
    # A query without relevant items divides 0 by 0 everywhere below: NaN, as it should be.
    return {
        "n_relevant": n,
        "ap": total(precision) / n,
        "ap_at_r": total(precision * (rank < n[row])) / n,
        "r_precision": total(rank < n[row]) / n,
        **{f"hit_at_{k}": total((rank < k) & (nth == 0)) / (n > 0) for k in ks},
        **{f"recall_at_{k}": total(rank < k) / n for k in ks},
        "ndcg_at_10": total(_gain(grade, rank)) / total(_gain(grade[ideal], nth)),
        "mp_at_10": total(rank < last[row]) / last,
        "ap_trapezoid": total((before + precision) / 2) / n,
    }


def _gain(grade: Float[Tensor, " r"], rank: Int[Tensor, " r"]) -> Float[Tensor, " r"]:
    """What items of these grades add to the DCG at these ranks (from 0)."""
    return (rank < CUTOFF) * grade.double() / (rank + 2).double().log2()


def _ranks(scores: Float[Tensor, "b m"], grades: Float[Tensor, "b m"]) -> tuple[Tensor, Tensor, Tensor]:
    """Row, rank (from 0) and grade of each relevant item, by row and then by rank; the order is `descending`'s."""
    if scores.device.type != "cpu":
        order = descending(scores)
        gains = grades.gather(1, order)
        row, rank = (gains > 0).nonzero(as_tuple=True)
        return row, rank, gains[row, rank]
    rows, columns = (grades > 0).nonzero(as_tuple=True)
    ends = torch.bincount(rows, minlength=len(scores)).cumsum(0)[:-1].tolist()
    parts = zip(scores.numpy(), np.split(columns.numpy(), ends), strict=True)
    counted = [_count(own, relevant) for own, relevant in parts if len(relevant)]
    if not counted:
        return rows, columns, grades[rows, columns]
    rank, columns = (torch.from_numpy(np.concatenate(part)) for part in zip(*counted, strict=True))
    return rows, rank, grades[rows, columns]


def _count(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (from 0, ascending) of the columns `relevant` by descending score, and those columns in that order.

    The scores are counted in bins that keep their order, and only what shares a bin with a relevant one is sorted:
    where few items are relevant, a tenth of the time of sorting all.
    """
    low, high = scores[relevant].min(), scores.max()
    scale = np.float32(BINS - 2) / max(high - low, np.float32(1e-30))
    bins = scores - low
    bins *= scale
    np.maximum(bins, -1, out=bins)  # bin 0 is for what no relevant item can be below
    bins += 1
    cell = bins.astype(np.intp)
    size = np.bincount(cell, minlength=BINS)
    shared = np.zeros(len(size), dtype=bool)
    shared[cell[relevant]] = True
    near = np.flatnonzero(shared[cell])
    near = near[descending(torch.from_numpy(scores[near])[None])[0].numpy()]
    size[shared] = 0
    missed = np.cumsum(size[::-1])[::-1]  # scores in higher bins that are not in `near`
    is_relevant = np.zeros(len(scores), dtype=bool)
    is_relevant[relevant] = True
    place = np.flatnonzero(is_relevant[near])
    found = near[place]
    return place + missed[cell[found]], found
