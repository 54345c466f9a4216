"""Variant board: models x data sets x comparisons x corrections as a heat map that can be sorted and opened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.corrections import CORRECTIONS, Correction
from xgap_analysis.datasets import Dataset
from xgap_analysis.experiments import COMPARISONS, Comparison, Evaluation, Study, main_rows
from xgap_analysis.models.tower import Model
from xgap_analysis.scoring import SCORERS, ScoreFunction, Scorer, scorer
from xgap_analysis.views import Precomputed
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.heat import HeatTable
from xgap_analysis.widgets.neighbours import NeighbourExplorer
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.pictures import picture_html
from xgap_analysis.widgets.recreate import by_name, comparison_code, study_code

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Plot = Callable[[pd.DataFrame], Any]  # a function of the table that gives Axes or a Figure


class VariantBoard(Panel):
    """The table of a study: each cell a value with its interval and its paired difference from the baseline.

    A click on a heading sorts by it; a click on a cell opens the neighbours behind it.

    Args:
        study: the grid to choose from.
        table: rows that have been computed already (`study.run()`); without them the button "run" computes.
        plots: title to a function of the table that draws on Axes or gives a Figure; yours are added to the package's.

    Attributes:
        results: the tidy table so far (columns of `Study.run`).
        explorer: the neighbours of the cell that was clicked last, or None.
    """

    def __init__(
        self, study: Study, table: pd.DataFrame | None = None, plots: Mapping[str, Plot] | None = None
    ) -> None:
        self.study = study
        self.results = pd.DataFrame() if table is None else table
        self.explorer: NeighbourExplorer | None = None
        self._models = {m if isinstance(m, str) else m.name: m for m in study.models}
        self._datasets = {_dataset_name(d): d for d in study.datasets}
        self._comparisons: dict[str, str | Comparison] = {
            c if isinstance(c, str) else c.name: c for c in study.comparisons
        }
        self._corrections: dict[str, str | Correction] = {str(c): c for c in study.corrections}
        self._scorers: dict[str, str | Scorer | ScoreFunction] = {str(scorer(s)): s for s in study.scorers}
        self._evaluations: dict[tuple[str, str], Evaluation] = {}
        self._plots = dict(plots or {})

        more_comparisons = list(dict.fromkeys([*self._comparisons, *COMPARISONS]))
        more_corrections = list(dict.fromkeys([*self._corrections, *CORRECTIONS]))
        self._pick = {
            "models": _picker("models", list(self._models), list(self._models)),
            "datasets": _picker("data sets", list(self._datasets), list(self._datasets)),
            "comparisons": _picker("comparisons", more_comparisons, list(self._comparisons)),
            "corrections": _picker("corrections", more_corrections, list(self._corrections)),
            "scorers": _picker("scorers", list(dict.fromkeys([*self._scorers, *SCORERS])), list(self._scorers)),
        }
        self._run = ipywidgets.Button(
            description="run", icon="play", tooltip="compute what is chosen", button_style="primary"
        )
        self._run.layout.width = "90px"
        self._run.on_click(lambda _: self.run())
        self._plot = ipywidgets.Dropdown(
            options=list(dict.fromkeys(["differences", "grid", *self._plots])), description="figure"
        )
        self._heat = HeatTable(self._opened)
        self._picture = ipywidgets.HTML()
        self._below = ipywidgets.VBox()
        super().__init__(
            "Variant board",
            [
                ipywidgets.HBox(list(self._pick.values()), layout={"flex_flow": "row wrap"}),
                ipywidgets.HBox([self._run, self._plot]),
                self._heat,
                self._picture,
            ],
            [self._below],
        )
        show = Debounced(lambda _: self.guarded(self._show), 0.15)
        for picker in self._pick.values():
            picker.observe(show, "value")
        self._plot.observe(lambda _: self.guarded(self._draw), "value")
        self.guarded(self._show)

    @property
    def chosen(self) -> dict[str, tuple[str, ...]]:
        """The names that are chosen: `models`, `datasets`, `comparisons`, `corrections` and `scorers`."""
        return {part: tuple(picker.value) for part, picker in self._pick.items()}

    def run(self) -> None:
        """Computes what is chosen, one model and data set after the other; finished ones stay when it is cancelled."""
        chosen = self.chosen
        empty = [part for part, names in chosen.items() if not names]
        if empty:
            self.show_error(XgapError(f"choose at least one of the {empty[0]}"))
            return
        refused: list[str] = []

        def work() -> None:
            for model in chosen["models"]:
                for dataset in chosen["datasets"]:
                    try:
                        made = self._evaluation(model, dataset, chosen).table()
                    except XgapError as error:  # the other models and data sets go on
                        refused.append(f"{model} on {dataset}: {error}")
                        continue
                    self.results = _with(self.results, made)

        def done(_: None) -> None:
            self._show()
            if refused:
                raise XgapError("; ".join(refused))

        self.work(work, done)

    def show_error(self, error: Exception) -> None:
        """Shows an error in place, and whatever is finished."""
        super().show_error(error)
        self._heat.show(self._shown())

    def _evaluation(self, model: str, dataset: str, chosen: Mapping[str, Sequence[str]]) -> Evaluation:
        """The evaluation of a model and a data set, asked for what is chosen; what it has computed is kept."""
        study = replace(
            self.study,
            models=[self._loaded(model)],
            datasets=[self._datasets[dataset]],
            comparisons=[self._comparisons.get(c, c) for c in chosen["comparisons"]],
            corrections=[self._corrections.get(c, c) for c in chosen["corrections"]],
            scorers=[self._scorers.get(s, s) for s in chosen["scorers"]],
        )
        key = (model, dataset)
        if key in self._evaluations:
            self._evaluations[key] = self._evaluations[key].with_cells(study)
        else:
            (self._evaluations[key],) = study.evaluations()
        return self._evaluations[key]

    def _loaded(self, model: str) -> str | Model | Precomputed:
        return next(
            (evaluation.model for (name, _), evaluation in self._evaluations.items() if name == model),
            self._models[model],
        )

    def _shown(self) -> pd.DataFrame:
        """The main rows of what is chosen, as far as they have been computed."""
        if not len(self.results):
            return self.results
        rows, chosen = main_rows(self.results), self.chosen
        columns = {"models": "model", "datasets": "dataset", "comparisons": "comparison", "corrections": "correction"}
        columns["scorers"] = "scorer"
        for part, column in columns.items():
            rows = rows[rows[column].isin(chosen[part])]
        return rows.reset_index(drop=True)

    def _show(self) -> None:
        self._heat.show(self._shown())
        self._draw()

    def _draw(self) -> None:
        rows = self._shown()
        if not len(rows) or not rows["difference"].notna().any():
            self._picture.value = ""
            return
        self._picture.value = picture_html(self.figure(), "the figure of the rows above")

    def _opened(self, row: Mapping[str, Any]) -> None:
        """Opens the neighbours behind a cell."""
        comparisons = dict.fromkeys([row["baseline"], row["comparison"]])
        corrections = dict.fromkeys(["none", row["correction"]])
        chosen = {"comparisons": list(comparisons), "corrections": list(corrections), "scorers": [row["scorer"]]}

        def done(evaluation: Evaluation) -> None:
            given = [self._corrections.get(c, c) for c in corrections]
            self.explorer = NeighbourExplorer(evaluation, [evaluation.study.comparison(c) for c in comparisons], given)
            self._below.children = [self.explorer]

        self.work(lambda: self._evaluation(str(row["model"]), str(row["dataset"]), chosen), done)

    def code(self) -> str:
        """Python that gives the table and the figure on screen."""
        title = self._plot.value
        drawn = title not in self._plots and self._picture.value
        return "\n".join(
            [
                *(["import dataclasses", ""] if not self._by_name() else []),
                "import xgap_analysis as xg",
                *(["from xgap_analysis import plots"] if drawn else []),
                "",
                f"table = {self._study_code()}.run()",
                *([f"plots.{title}(xg.main_rows(table))"] if drawn else []),
                "xg.main_rows(table)",
            ]
        )

    def _by_name(self) -> list[tuple[str, int | None]]:
        """The one split and limit by which the chosen data sets are loaded again, or nothing."""
        given = [self._datasets[name] for name in self.chosen["datasets"]]
        asked = (self.study.split, self.study.limit)
        found = {asked if isinstance(dataset, str) else by_name(dataset) for dataset in given}
        return [one for one in found if one is not None] if len(found) == 1 else []

    def _study_code(self) -> str:
        chosen, found = self.chosen, self._by_name()
        comparisons = [self._comparisons.get(c, c) for c in chosen["comparisons"]]
        if found:
            names = chosen["models"], chosen["datasets"]
            return study_code(self.study, *names, comparisons, chosen["corrections"], *found[0])
        parts: dict[str, Mapping[str, Any]] = {"models": self._models, "datasets": self._datasets}
        places = {part: [list(of).index(name) for name in chosen[part]] for part, of in parts.items()}
        lines = [f"{part}=[study.{part}[i] for i in {at}]" for part, at in places.items()]
        lines += [f"comparisons=[{', '.join(map(comparison_code, comparisons))}]"]
        lines += [f"corrections={list(chosen['corrections'])!r}"]
        said = "# the study that the widget was made with: its data sets cannot be loaded by names and one split"
        return f"dataclasses.replace(\n    study,  {said}\n" + "".join(f"    {line},\n" for line in lines) + ")"

    def table(self) -> pd.DataFrame:
        """The main rows on screen."""
        rows = self._shown()
        if not len(rows):
            raise XgapError("there is nothing to show yet; press run first")
        return rows

    def figure(self) -> "Figure":
        """The chosen figure of the rows on screen."""
        from xgap_analysis import plots as ours

        draw = self._plots.get(self._plot.value) or getattr(ours, self._plot.value)
        made = draw(self.table())
        return made.get_figure(root=True) if hasattr(made, "get_figure") else made

    def name(self) -> str:
        """board, models, data sets."""
        chosen = self.chosen
        return f"board-{'+'.join(chosen['models'])}-{'+'.join(chosen['datasets'])}-{self._plot.value}"


def _picker(title: str, options: Sequence[str], value: Sequence[str]) -> ipywidgets.SelectMultiple:
    return ipywidgets.SelectMultiple(
        options=options,
        value=tuple(value),
        rows=5,
        description=title,
        layout={"width": "330px"},
        style={"description_width": "90px"},
    )


def _dataset_name(dataset: str | Dataset) -> str:
    return dataset if isinstance(dataset, str) else dataset.name


def _with(before: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """A table with rows in the place of older ones of the same model, dataset, comparison, correction, scorer."""
    if not len(before):
        return made
    key = ["model", "dataset", "comparison", "correction", "scorer"]
    new = pd.MultiIndex.from_frame(made[key])
    kept = before[~pd.MultiIndex.from_frame(before[key]).isin(new)]
    return pd.concat([kept, made], ignore_index=True) if len(kept) else made
