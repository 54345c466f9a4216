"""Axes of a study: options of views, corrections and scorers, and settings of the study, that take several values."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.registry import check_options
from xgap_analysis.corrections import CORRECTIONS, Correction, correction
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.scoring import SCORERS, Scorer, scorer
from xgap_analysis.views import VIEWS
from xgap_analysis.views.view import LEADING

if TYPE_CHECKING:
    from xgap_analysis.experiments.study import Study

# What may vary of a study. A checkpoint, by name or path, stands in the place of its models.
SETTINGS = ("checkpoint", "split", "fit_split", "label_set", "limit", "only", "steps", "tokens", "precision")


def check_axes(axes: Mapping[str, Sequence[Any]]) -> None:
    """Refuses an axis that is no option and no setting, or that has no values.

    Raises:
        XgapError: which axis, and what there is.
    """
    for axis, values in axes.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Collection) or not len(values):
            raise XgapError(f"axis {axis!r} needs a list of values, such as [1, 2], not {values!r}")
        owner, option = _owner_and_option(axis)
        if not owner:
            if option not in SETTINGS:
                raise unknown_name(
                    "axis (a setting, or name.option)", axis, (*SETTINGS, *VIEWS, *CORRECTIONS, *SCORERS)
                )
        elif owner in VIEWS:
            check_options("view", owner, VIEWS[owner].function, LEADING, {option: None})
        elif owner in CORRECTIONS:
            correction(owner, **{option: None})
        elif owner in SCORERS:
            scorer(owner, **{option: None})
        else:
            raise unknown_name("axis (a setting, or name.option)", owner, (*SETTINGS, *VIEWS, *CORRECTIONS, *SCORERS))


def _owner_and_option(axis: str) -> tuple[str, str]:
    """`oti.steps` is an option of `oti`; a setting of the study has no owner."""
    owner, _, option = axis.rpartition(".")
    return owner, option


def settings_of(study: "Study") -> Iterator[tuple[dict[str, Any], "Study"]]:
    """The studies that the axes over settings make of one, each with the values that it stands for."""
    settings = {name: values for name, values in study.axes.items() if name in SETTINGS}
    options = {name: values for name, values in study.axes.items() if name not in SETTINGS}
    for at in _points(settings):
        changed = {name: value for name, value in at.items() if name != "checkpoint"}
        if "checkpoint" in at:
            changed["models"] = [at["checkpoint"]]
        if "split" in at:  # a dataset that is given as it is stands for its split, unless the axis names another
            changed["datasets"] = [d if isinstance(d, str) else d.split(at["split"]) for d in study.datasets]
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
    for axis, value in at.items():
        owner, option = _owner_and_option(axis)
        options.setdefault(owner, {})[option] = value

    def own(c: Comparison, b: Correction, s: Scorer) -> tuple[Comparison, Correction, Scorer]:
        s = scorer(s, **options[s.name]) if s.name in options else s
        return c.with_options(options), b.with_options(options), s

    none, baseline = correction("none"), study.comparison(comparison.baseline)
    parts, base = own(comparison, by, scoring), own(baseline, none, scoring)
    if parts == base:  # a baseline by itself: its other scorers are compared with the first
        base = own(baseline, none, first)
    owners = _names(*parts) | _names(*base)
    return Cell(
        *parts,
        baseline=None if parts == base else Cell(*base),
        at={axis: value for axis, value in at.items() if _owner_and_option(axis)[0] in owners},
    )


def _names(comparison: Comparison, by: Correction, scoring: Scorer) -> set[str]:
    """The views, the corrections and the scorer of a cell, by name: what an axis may change."""
    return (by.names | {scoring.name}).union(*(v.names for v in comparison.views))
