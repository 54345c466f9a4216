"""Examples for one query from several rankings: a few from each, and how far the rankings choose alike."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike, as_pair
from xgap_analysis.scoring.blocks import first_of, score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


@dataclass(frozen=True)
class Stratified:
    """What was picked, and how alike the rankings are.

    Args:
        picks: one row per pick: `query`, `group`, `place` (of the pick in its group, from 1), `item`, `score`.
        overlap: one row per pair of groups: `a`, `b`, `n` (queries), `overlap` (the mean share of the first `per_group`
            items that two rankings have in common); `xgap_analysis.plots.agreement(overlap, "overlap")` draws it.
    """

    picks: pd.DataFrame
    overlap: pd.DataFrame


def stratified(
    groups: Mapping[str, tuple[FeaturesLike, FeaturesLike]],
    per_group: int = 2,
    *,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> Stratified:
    """The first `per_group` items of each of several rankings, none twice: in place of one that is picked, the next.

    Where examples are chosen for a query that has an image and a text, from examples that have both, there are four
    rankings: `four_groups`. Rankings within a modality and across modalities choose alike where the modalities are
    aligned; their overlap shows misalignment: `k / m` of m items by chance, 1 where all agree.

    Args:
        groups: a name to query and gallery, in the order in which they pick. All queries have the same ids, in one
            order; gallery items of one id are one example.
        per_group: picks from each ranking.
        exclude_self: leave out the example with the query's id (of arrays, that at the query's position).
        block: queries at a time.
        scorer: how a pair is scored.

    Raises:
        XgapError: no groups, other queries in one than in another, or a gallery that has too few items.

    Example:
        >>> import torch
        >>> made = stratified({"I-I": (torch.eye(3), torch.eye(3)), "T-T": (torch.eye(3), torch.eye(3))}, 1)
        >>> made.picks["item"].tolist()
        ['1', '2', '0', '2', '0', '1']

    Source: Liu et al., Retrieval-augmented multi-modal chain-of-thoughts reasoning for large language models, 2023.
    """
    if not groups:
        raise XgapError("there is no group to pick from: give a name to a query and a gallery, for one at least")
    if per_group < 1:
        raise XgapError(f"each group picks 1 item or more, not {per_group}")
    most = per_group * len(groups)
    lists: dict[str, list[list[tuple[str, float]]]] = {}
    ids: tuple[str, ...] = ()
    for name, pair in groups.items():
        query, gallery = as_pair(*pair)
        ids = ids or tuple(query.ids)
        if tuple(query.ids) != ids:
            raise XgapError(f"the queries of group {name!r} are not those of the others, in their order")
        own = {i: row for row, i in enumerate(gallery.ids)}
        least = len(gallery) - any(i in own for i in ids) * exclude_self
        if least < per_group:
            raise XgapError(f"group {name!r} has {least} items to pick {per_group} from; take a smaller per_group")
        lists[name] = []
        for start, stop, scores in score_blocks(query, gallery, scorer, block=block):
            at = [(row - start, own[i]) for row, i in enumerate(ids[start:stop], start) if i in own and exclude_self]
            if at:
                scores[tuple(torch.tensor(at).T.to(scores.device))] = -math.inf
            order = first_of(scores, most).cpu()
            values = scores.cpu().gather(1, order)
            lists[name] += [
                [(gallery.ids[i], s) for i, s in zip(*row, strict=True) if s > -math.inf]
                for row in zip(order.tolist(), values.tolist(), strict=True)
            ]
    return Stratified(_picks(ids, lists, per_group), _overlap(lists, per_group))


def four_groups(
    query_images: FeaturesLike, query_texts: FeaturesLike, images: FeaturesLike, texts: FeaturesLike
) -> dict[str, tuple[FeaturesLike, FeaturesLike]]:
    """The rankings I-I, T-T, I-T and T-I of examples for queries, each of which has an image and a text of one id."""
    return {
        "I-I": (query_images, images),
        "T-T": (query_texts, texts),
        "I-T": (query_images, texts),
        "T-I": (query_texts, images),
    }


def _picks(ids: tuple[str, ...], lists: Mapping[str, list[list[tuple[str, float]]]], per_group: int) -> pd.DataFrame:
    rows = []
    for number, query in enumerate(ids):
        picked: set[str] = set()
        for name, ranked in lists.items():
            left = [(item, score) for item, score in ranked[number] if item not in picked][:per_group]
            if len(left) < per_group:
                what = f"group {name!r} has {len(left)} items left for query {query!r} that no other group has picked"
                raise XgapError(f"{what}; take a smaller per_group than {per_group}")
            picked |= {item for item, _ in left}
            rows += [(query, name, place, item, score) for place, (item, score) in enumerate(left, 1)]
    return pd.DataFrame(rows, columns=["query", "group", "place", "item", "score"])


def _overlap(lists: Mapping[str, list[list[tuple[str, float]]]], per_group: int) -> pd.DataFrame:
    tops = {name: [{item for item, _ in row[:per_group]} for row in ranked] for name, ranked in lists.items()}
    rows = []
    for a, b in combinations(tops, 2):
        shared = [len(one & two) / per_group for one, two in zip(tops[a], tops[b], strict=True)]
        rows.append((a, b, len(shared), sum(shared) / len(shared)))
    return pd.DataFrame(rows, columns=["a", "b", "n", "overlap"])
