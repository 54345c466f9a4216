"""Inverted views along an axis over steps, from one inversion."""

from typing import TYPE_CHECKING

from xgap_analysis.core.features import Features
from xgap_analysis.views import View, view

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


def inversion_along(evaluation: "Evaluation", own: View, part: str, seed: int) -> dict[View, Features] | None:
    """The features of an inverted view at every number of steps on its axis, from one inversion.

    An inversion of 150 steps passes through that of 10, so that an axis over steps costs no more than its last value.
    None where the view has no such axis, or another rule to stop.
    """
    steps = evaluation.study.axes.get(f"{own.name}.steps", ())
    if own.name not in ("oti", "ovi") or own.options.get("steps") not in steps or {"stop", "start"} & set(own.options):
        return None
    native = evaluation.native(own.modality, part)
    options = {name: value for name, value in own.options.items() if name not in ("steps", "seed", "on_error")}
    made = evaluation.inversion(native, own.options.get("seed", seed), steps, steps=max(steps), **options)
    return {view(own, steps=step): features for step, features in made.snapshots.items()}
