"""Variant board: models x datasets x comparisons x corrections x scorers as a heat map to sort and to open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments import Evaluation, Study
from xgap_analysis.experiments.hints import hints
from xgap_analysis.widgets.choices import Choices, Chosen, one_at_a_time, shown_rows, with_rows
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.figures import figure_html
from xgap_analysis.widgets.heat import HeatTable, varying
from xgap_analysis.widgets.neighbours import NeighbourExplorer
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.style import WRAP
from xgap_analysis.widgets.view_code import board_code

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
        self.study, self.choices = study, Choices.of(study)
        self.results = pd.DataFrame() if table is None else table
        self.explorer: NeighbourExplorer | None = None
        self._evaluations: dict[tuple[str, str], Evaluation] = {}
        self._plots = dict(plots or {})
        self._pick = {part: self._picker(part) for part in self.choices.given}
        self._run = ipywidgets.Button(
            description="run", icon="play", tooltip="compute what is chosen", button_style="primary"
        )
        self._run.layout.width = "90px"
        self._run.on_click(lambda _: self.run())
        self._plot = ipywidgets.Dropdown(
            options=list(dict.fromkeys(["differences", "grid", *self._plots])), description="figure"
        )
        self._heat = HeatTable(self._opened)
        self._drawn = ipywidgets.HTML()
        self._below = ipywidgets.VBox()
        super().__init__(
            "Variant board",
            [
                ipywidgets.HBox(list(self._pick.values()), layout=WRAP),
                ipywidgets.HBox([self._run, self._plot], layout=WRAP),
            ],
            [self._heat, self._drawn],
            [self._below],
        )
        show = Debounced(lambda _: self.guarded(self._show), 0.15)
        for picker in self._pick.values():
            picker.observe(show, "value")
        self._plot.observe(lambda _: self.guarded(self._draw_another), "value")
        self.guarded(self._show)

    def _picker(self, part: str) -> ipywidgets.SelectMultiple:
        return ipywidgets.SelectMultiple(
            options=self.choices.names(part),
            value=tuple(self.choices.given[part]),
            rows=5,
            description=part,
            layout={"width": "330px"},
            style={"description_width": "90px"},
        )

    @property
    def chosen(self) -> dict[str, tuple[str, ...]]:
        """The names that are chosen: `models`, `datasets`, `comparisons`, `corrections` and `scorers`."""
        return {part: tuple(picker.value) for part, picker in self._pick.items()}

    def run(self) -> None:
        """Computes what is chosen, one model and dataset after the other; finished ones stay when it is cancelled."""
        chosen = self.chosen
        empty = [part for part, names in chosen.items() if not names]
        if empty:
            self.show_error(XgapError(f"choose at least one of the {empty[0]}"))
            return
        refused: list[str] = []

        def work() -> None:
            for one in one_at_a_time(chosen):
                try:
                    made = self._evaluation(one).table()
                except XgapError as error:  # the other models and datasets go on
                    refused.append(f"{one['models'][0]} on {one['datasets'][0]}: {error}")
                    continue
                self.results = with_rows(self.results, made)

        def done(_: None) -> None:
            self._show()
            of = (self._evaluations.get((m, d)) for m in chosen["models"] for d in chosen["datasets"])
            self.show_hints(list(dict.fromkeys(hint for one in of if one is not None for hint in hints(one))))
            if refused:
                raise XgapError("; ".join(refused))

        self.work(work, done)

    def show_error(self, error: Exception) -> None:
        """Shows an error in place, and whatever is finished."""
        super().show_error(error)
        self._heat.show(self._shown())

    def _evaluation(self, chosen: Chosen) -> Evaluation:
        """The evaluation of one model on one dataset with the cells that are chosen; what it has computed is kept."""
        (model,), (dataset,) = chosen["models"], chosen["datasets"]
        study = self.choices.narrowed(chosen)
        loaded = next((e.model for (name, _), e in self._evaluations.items() if name == model), None)
        if loaded is not None:
            study = replace(study, models=[loaded])
        key = (model, dataset)
        if key in self._evaluations:
            self._evaluations[key] = self._evaluations[key].with_cells(study)
        else:
            (self._evaluations[key],) = study.evaluations()
        return self._evaluations[key]

    def _shown(self) -> pd.DataFrame:
        return shown_rows(self.results, self.chosen)

    def _show(self) -> None:
        self._heat.show(self._shown())
        self._draw()

    def _draw_another(self) -> None:
        self._say("")
        self._draw()

    def _draw(self) -> None:
        self._drawn.value = ""  # the figure of other rows would stay where this one cannot be drawn
        rows = self._shown()
        if not len(rows) or not rows["difference"].notna().any():
            return
        self._drawn.value = figure_html(self.figure(), "the figure of the rows above")

    def _opened(self, row: Mapping[str, Any]) -> None:
        """Opens the neighbours behind a cell."""
        chosen: dict[str, Sequence[str]] = {
            "models": [str(row["model"])],
            "datasets": [str(row["dataset"])],
            "comparisons": list(dict.fromkeys([row["baseline"], row["comparison"]])),
            "corrections": list(dict.fromkeys(["none", row["correction"]])),
            "scorers": [row["scorer"]],
        }

        def done(evaluation: Evaluation) -> None:
            study = evaluation.study
            self.explorer = NeighbourExplorer(evaluation, study.comparisons, study.corrections, scorers=study.scorers)
            self._below.children = [self.explorer]

        self.work(lambda: self._evaluation(chosen), done)

    def code(self) -> str:
        """Python that gives the table and the figure on screen."""
        drawn = self._plot.value not in self._plots and bool(self._drawn.value)
        return board_code(self.choices, self.chosen, self._plot.value if drawn else None, self._by)

    def table(self) -> pd.DataFrame:
        """The main rows on screen."""
        rows = self._shown()
        if not len(rows):
            raise XgapError("there is nothing to show yet; press run first")
        return rows

    def figure(self) -> "Figure":
        """The chosen figure of the rows on screen."""
        from xgap_analysis import plots as ours

        name, rows = self._plot.value, self.table()
        own = self._plots.get(name)
        made = own(rows) if own else getattr(ours, name)(rows, **({"by": self._by} if name == "grid" else {}))
        return made.get_figure(root=True) if hasattr(made, "get_figure") else made

    @property
    def _by(self) -> list[str]:
        """What the lines of a grid are: the columns that vary among the rows on screen, or the correction."""
        rows = self._shown()
        return varying(rows) or ["correction"]

    def name(self) -> str:
        """board, models, datasets."""
        chosen = self.chosen
        return f"board-{'+'.join(chosen['models'])}-{'+'.join(chosen['datasets'])}-{self._plot.value}"
