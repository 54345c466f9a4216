"""Rankings that another tool computed, measured as `retrieval` measures ours."""

from collections.abc import Sequence

import pandas as pd
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.predictions import Run
from xgap_analysis.core.relevance import Grades
from xgap_analysis.metrics.block_ranks import Ranks
from xgap_analysis.metrics.retrieval import measured

NOWHERE = 2**62  # the rank of an item that was not kept: it adds nothing to any measure


def run_scores(run: Run, relevance: Grades, *, ks: Sequence[int] = (1, 5, 10)) -> pd.DataFrame:
    """How well a run ranks what is relevant: one row per query, with the columns of `retrieval`.

    A run holds the nearest items of each query only. A relevant item that is not among them counts as never found,
    so that `ap` is that of the items kept (as trec_eval computes it), and cut-offs beyond their number say no more.
    Equal scores keep the run's order. `ap_trapezoid` is left out.

    Args:
        run: query id to item id to score, from `load_predictions`.
        relevance: query id to item id to grade; above 0 is relevant. Its queries are what is measured: one that the run
            does not have has found nothing.
        ks: cut-offs of `hit_at_k` and `recall_at_k`.

    Raises:
        XgapError: no query with a relevant item, or none that the run has.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.metrics.run_scores({"q": {"a": 0.9, "b": 0.5, "c": 0.1}}, {"q": {"b": 1, "z": 1}})
        >>> table[["n_relevant", "ap", "recall_at_10"]].loc["q"].tolist()  # b at rank 2, z was not kept
        [2.0, 0.25, 0.5]
    """
    if not set(relevance) & set(run):
        raise XgapError("none of the queries of the relevance is in the run; are they of the same task?")
    row, rank, grade = [], [], []
    for number, (query, items) in enumerate(relevance.items()):
        scores = run.get(query, {})
        placed = {item: place for place, item in enumerate(sorted(scores, key=scores.__getitem__, reverse=True))}
        wanted = sorted((placed.get(item, NOWHERE), of) for item, of in items.items() if of > 0)
        row += [number] * len(wanted)
        rank += [place for place, _ in wanted]
        grade += [float(of) for _, of in wanted]
    if not row:
        raise XgapError("no query has a relevant item")
    ranks = Ranks(len(relevance), torch.tensor(row), torch.tensor(rank), torch.tensor(grade))
    columns = {name: values.numpy() for name, values in measured(ranks, ks).items() if name != "ap_trapezoid"}
    return pd.DataFrame(columns, index=pd.Index(list(relevance), name="query"))
