"""What a study would compute, and about how long that takes here: counted, and measured on a few items."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xgap_analysis.experiments.axes import cells_of, settings_of
from xgap_analysis.experiments.pairing import gallery_part
from xgap_analysis.views import View
from xgap_analysis.views.inversion.settings import STEPS

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation
    from xgap_analysis.experiments.study import Study

FEW, SHORT, LONG = 32, 2, 10  # items of a trial, and inversion steps of its two runs


def plan(study: "Study") -> list[dict[str, Any]]:
    """The features that a study needs, with the time that they take, extrapolated from a trial of each.

    Args:
        study: nothing of it is computed or stored but the trials.

    Returns:
        One row for each model, dataset and view: columns model, dataset, split, view, items (of queries, gallery and
        class names), seeds, and seconds, an upper bound: the store may have some of the features, and large batches are
        faster than the trial's. A fusion stands as the views that it joins. Correction, scoring and resampling are not
        counted.

    Example:
        >>> import xgap_analysis as xg
        >>> study = xg.Study(["tiny"], ["emoji"], ["I-I", "OTI-I"], limit=3, progress=False)
        >>> [(row["view"], row["items"]) for row in plan(study)]
        [('image', 16), ('oti', 16)]
    """
    return [row for _, one in settings_of(study) for evaluation in one.evaluations() for row in _rows(evaluation)]


def needed_views(evaluation: "Evaluation") -> dict[View, set[str]]:
    """The views that the cells of a study need, each with the parts of the items that it is of."""
    needed: dict[View, set[str]] = {}
    for cell in cells_of(evaluation.study):
        for one in filter(None, (cell, cell.baseline)):
            c = one.comparison
            for own, part in ((c.query, "queries"), (c.gallery, gallery_part(c))):
                needed.setdefault(own, set()).add(part)
    return needed


def _rows(evaluation: "Evaluation") -> Iterator[dict[str, Any]]:
    needed: dict[View, set[str]] = {}
    for joined, parts in needed_views(evaluation).items():
        for own in parts_of(joined):
            needed.setdefault(own, set()).update(evaluation.part_of(own, part) for part in parts)
    for own, parts in needed.items():
        n = sum(len(evaluation.items(own.modality, part)) for part in parts)
        seeds = len(evaluation.study.seeds) if own.is_seeded else 1
        yield {
            "model": evaluation.model.name,
            "dataset": evaluation.data.name,
            "split": evaluation.data.split_name,
            "view": str(own),
            "items": n,
            "seeds": seeds,
            "seconds": n * seeds * _seconds_of_one(evaluation, own, sorted(parts)[0]),
        }


def parts_of(joined: View) -> list[View]:
    """The views that are joined by one, or itself."""
    return [one for a in joined.arguments if isinstance(a, View) for one in parts_of(a)] or [joined]


def _seconds_of_one(evaluation: "Evaluation", own: View, part: str) -> float:
    items = evaluation.items(own.modality, part)
    few = items.select(items.ids[:FEW])

    def seconds(trial: View, **context: Any) -> float:
        began = time.perf_counter()
        trial(evaluation.model, few, **{**evaluation.context(), "store": None, "progress": False, **context})
        return time.perf_counter() - began

    if own.name not in ("oti", "ovi"):
        seconds(own)  # the first run also opens files
        return seconds(own) / len(few)
    steps = own.options.get("steps") or evaluation.study.steps or STEPS[own.space]
    trial = replace(own, options={name: value for name, value in own.options.items() if name != "steps"})
    seconds_by = {n: seconds(trial, steps=n) for n in (SHORT, SHORT, LONG)}
    return max(seconds_by[LONG] - seconds_by[SHORT], 0.0) / (LONG - SHORT) * steps / len(few)
