"""Which queries, and which classes, make a mean, as figures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import bootstrap_interval
from xgap_analysis.plots.estimates import points
from xgap_analysis.plots.style import HIGHER, LOWER, open_axes, own_axes, plain

SAME = 1e-9  # differences below it are rounding


def per_query(before: pd.Series, after: pd.Series, ax: Axes | None = None) -> Axes:
    """Each query's difference, in descending order: how many gain, how many lose, and how much.

    Args:
        before, after: a column of `Evaluation.scores` (or of `retrieval`, `zero_shot`) for two comparisons, indexed by
            query; queries without a score are left out.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: no query in common.

    Example:
        >>> import pandas as pd
        >>> import xgap_analysis as xg
        >>> before, after = pd.Series([0.5, 0.6], ["a", "b"]), pd.Series([0.7, 0.5], ["a", "b"])
        >>> ax = xg.plots.per_query(before, after)
        >>> len(ax.patches) >= 2  # one bar per query
        True
    """
    difference = (after - before).dropna().sort_values(ascending=False).to_numpy()
    if not len(difference):
        raise XgapError("the two comparisons have no scored query in common")
    ax = own_axes(ax, 6, 2.8)
    place = np.arange(len(difference) + 1) - 0.5  # the edges of one bar per query
    shares = []
    for sign, colour, word in ((1, HIGHER, "gain"), (0, "none", "same"), (-1, LOWER, "lose")):
        of = np.where(np.abs(difference) < SAME, 0, np.sign(difference)) == sign
        ax.stairs(np.where(of, difference, 0), place, color=colour, fill=True, lw=0)
        shares.append(f"{of.mean():.0%} {word}")
    ax.axhline(difference.mean(), color="black", ls="--", lw=1, label=f"mean {difference.mean():+.4f}")
    ax.axhline(0, color="black", lw=0.8)
    ax.set(xlabel="queries, by difference", ylabel="difference", title=", ".join(shares), xlim=(place[0], place[-1]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    open_axes([ax])
    return ax


def by_class(
    scores: Mapping[str, pd.DataFrame],
    labels: Mapping[str, str],
    metric: str = "correct_at_1",
    groups: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The mean score of each class under several comparisons, with 95 % intervals.

    Args:
        scores: title to a frame with one row per query (`Evaluation.scores`).
        labels: query id to the class it is counted under.
        metric: a column of the frames.
        groups: query id to a label; queries of one label are resampled together.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: no scores.

    Example:
        >>> import pandas as pd
        >>> import xgap_analysis as xg
        >>> scores = {"zero-shot": pd.DataFrame({"correct_at_1": [1.0, 0.0, 1.0]}, index=["a", "b", "c"])}
        >>> ax = xg.plots.by_class(scores, {"a": "cat", "b": "cat", "c": "dog"})
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['dog (1)', 'cat (2)']
    """
    if not scores:
        raise XgapError("there are no scores to draw")
    first = next(iter(scores.values()))
    order = first[metric].groupby([labels[i] for i in first.index]).mean().sort_values(ascending=False).index
    ax = own_axes(ax, 7, 0.3 * len(order) * (0.6 + 0.4 * len(scores)) + 1)
    rows = []
    for title, frame in scores.items():
        for name, part in frame[metric].groupby([labels[i] for i in frame.index]):
            found = bootstrap_interval(part, groups=[groups[i] for i in part.index] if groups else None)
            rows.append({"class": name, "of": title, **found.__dict__})
    points(ax, pd.DataFrame(rows), "mean", "class", ("low", "high"), by="of", order=list(order))
    counts = [sum(labels[i] == name for i in first.index) for name in order]
    ax.set_yticks(range(len(order)), [plain(f"{name} ({n})") for name, n in zip(order, counts, strict=True)])
    ax.set(xlabel=f"{plain(metric)}, 95 % interval (number of queries in brackets)", ylabel="")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    open_axes([ax])
    return ax
