"""Axes of a study: options of views, corrections and scorers, and settings of the study, that take several values."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import CORRECTIONS, Correction, correction
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.experiments.rows import Cell
from xgap_analysis.scoring import SCORERS, Scorer, scorer
from xgap_analysis.views import VIEWS, View, view

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation
    from xgap_analysis.experiments.study import Study

SETTINGS = (
    "checkpoint",
    "split",
    "fit_split",
    "level",
    "limit",
    "only",
    "steps",
    "tokens",
    "precision",
)  # of a study, that may vary


def check_axes(axes: Mapping[str, Sequence[Any]]) -> None:
    """Refuses an axis that names no option and no setting, or that has no values.

    Raises:
        XgapError: which axis, and what there is.
    """
    for name, values in axes.items():
        if isinstance(values, str) or not len(values):
            raise XgapError(f"axis {name!r} needs a list of values, such as [1, 2], not {values!r}")
        owner, dot, option = name.partition(".")
        known = (*SETTINGS, *VIEWS, *CORRECTIONS, *SCORERS)
        if owner not in known or bool(dot) == (owner in SETTINGS) or (dot and not option):
            raise unknown_name("axis (a setting, or name.option)", owner, known)


def settings_of(study: "Study") -> Iterator[tuple[dict[str, Any], "Study"]]:
    """The studies that the axes over settings make of one, each with the values that it stands for."""
    names = [name for name in study.axes if name in SETTINGS]
    options = {name: values for name, values in study.axes.items() if name not in names}
    for values in itertools.product(*(study.axes[name] for name in names)):
        at = dict(zip(names, values, strict=True))
        changed = {name: value for name, value in at.items() if name != "checkpoint"}
        if "checkpoint" in at:  # a model at a stage of its training, by name or path
            changed["models"] = [at["checkpoint"]]
        yield at, replace(study, axes=options, **changed)


def cells_of(study: "Study") -> list[Cell]:
    """The cells of an evaluation: comparisons x corrections x scorers x values of options.

    An axis that does not change a cell (`oti.steps` in `I-I`) does not repeat it.
    """
    cells: dict[tuple[Any, ...], Cell] = {}
    scorers = [scorer(s) for s in study.scorers]
    for by, named, scoring, at in itertools.product(
        map(correction, study.corrections), study.comparisons, scorers, _points(study.axes)
    ):
        cell = _cell(study, study.comparison(named), by, scoring, scorers[0], at)
        cells.setdefault((cell.key, *map(str, cell.at.items())), cell)
    return list(cells.values())


def _points(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _cell(
    study: "Study", comparison: Comparison, by: Correction, scoring: Scorer, first: Scorer, at: Mapping[str, Any]
) -> Cell:
    options: dict[str, dict[str, Any]] = {}
    for name, value in at.items():
        owner, _, option = name.partition(".")
        options.setdefault(owner, {})[option] = value

    def own(c: Comparison, b: Correction, s: Scorer) -> tuple[Comparison, Correction, Scorer]:
        b = correction(b, **options[b.name]) if b.name in options else b
        s = scorer(s, **options[s.name]) if s.name in options else s
        return c.with_options(options), b, s

    none, baseline = correction("none"), study.comparison(comparison.baseline)
    parts, base = own(comparison, by, scoring), own(baseline, none, scoring)
    if parts == base:  # a baseline by itself: its other scorers are compared with the first
        base = own(baseline, none, first)
    changed = {name: value for name, value in at.items() if _changes(name.partition(".")[0], *parts)}
    return Cell(*parts, None if parts == base else Cell(*base), changed)


def _changes(owner: str, comparison: Comparison, by: Correction, scoring: Scorer) -> bool:
    return owner in (by.name, scoring.name) or any(owner in v.names for v in comparison.views)


def inversion_along(evaluation: "Evaluation", own: View, part: str, seed: int) -> dict[View, Features] | None:
    """The features of an inverted view at every number of steps on its axis, from one inversion.

    An inversion of 150 steps passes through that of 10, so that an axis over steps costs no more than its last value.
    None where the view has no such axis, or another rule to stop.
    """
    steps = evaluation.study.axes.get(f"{own.name}.steps", ())
    if own.name not in ("oti", "ovi") or own.options.get("steps") not in steps or {"stop", "start"} & set(own.options):
        return None
    native = evaluation.view(own.modality, part)
    options = {name: value for name, value in own.options.items() if name not in ("steps", "seed")}
    made = evaluation.inversion(native, own.options.get("seed", seed), steps, steps=max(steps), **options)
    return {view(own, steps=step): features for step, features in made.snapshots.items()}
