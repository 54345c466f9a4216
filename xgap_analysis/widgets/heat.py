"""The main rows of a study as a heat map of buttons: headings sort, cells open what is behind them."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import pandas as pd

from xgap_analysis.metrics.best import BEST, LOWER, TIED
from xgap_analysis.metrics.verdicts import INCONCLUSIVE

ROWS = 14  # lines on a page
WIDTH, LABEL = "134px", "196px"
STEPS = (-0.6, -0.2, 0.2, 0.6)  # of the largest difference on screen
TINTS = ("#EDB84D", "#F6E0B3", "#F7F7F7", "#BBD7E8", "#7FB8DA")  # lower to higher, as in figures; black on all is read
BASELINE, MISSING = "#FFFFFF", "#DDDDDD"
LEGEND = (
    "With 95 % intervals. Δ: paired difference from the baseline, p (Holm) and groups; ▲ ▼ where conclusive. ★ the "
    "best variant of one baseline, ☆ tied with it. † fitted on what is evaluated."
)
STARS = {BEST: " ★", TIED: " ☆"}
AGAINST = {
    BEST: "the best variant of this baseline",
    TIED: "tied with the best variant",
    LOWER: "below the best variant",
}
ABOUT = ["model", "dataset", "split", "correction", "scorer"]


class HeatTable(ipywidgets.VBox):
    """One line for each model, dataset and correction, one column for each comparison.

    A cell says value and interval, then the paired difference from the baseline with ▲ or ▼ where the result is
    conclusive (see `metrics.verdict`); its tint repeats the difference. ★ marks the best variant of one baseline, and
    ☆ those that are tied with it (`metrics.against_best`). The tooltip has p, adjusted p, the number of groups, the
    reason, and the smallest effect that would have been seen.

    Args:
        on_open: called with the table's row when a cell is clicked.
    """

    def __init__(self, on_open: Callable[[Mapping[str, Any]], None]) -> None:
        self._on_open = on_open
        self._rows = pd.DataFrame()
        self._page, self._sorted_by, self._descending = 0, "", True
        # Headings and page buttons stay: new ones would take the focus from one that was pressed.
        self._headings: dict[str, ipywidgets.Button] = {}
        self._header = ipywidgets.HBox()
        self._earlier = ipywidgets.Button(icon="chevron-left", tooltip="earlier lines")
        self._later = ipywidgets.Button(icon="chevron-right", tooltip="later lines")
        self._earlier.on_click(lambda _: self._turn(-1))
        self._later.on_click(lambda _: self._turn(1))
        self._which = ipywidgets.Label()
        self._pages = ipywidgets.HBox([self._earlier, self._later, self._which])
        self._styles = {
            tint: ipywidgets.ButtonStyle(button_color=tint, text_color="#111") for tint in (*TINTS, BASELINE, MISSING)
        }
        self._cell_layout = ipywidgets.Layout(width=WIDTH, height="62px")
        super().__init__(layout={"overflow": "auto"})
        self.add_class("xgap-table")

    def show(self, rows: pd.DataFrame) -> None:
        """Shows the main rows of a study."""
        self._rows, self._page = rows, 0
        self._draw()

    @property
    def order(self) -> list[tuple[str, ...]]:
        """Model, dataset, split and correction of each line, from top to bottom."""
        return [key for key, _ in self._lines()]

    def sort(self, comparison: str) -> None:
        """Sorts the lines by a column, the highest first, at a second call the lowest; "" gives the table's order."""
        self._descending = not self._descending if comparison == self._sorted_by else True
        self._sorted_by = comparison
        self._page = 0
        self._draw()

    def _lines(self) -> list[tuple[tuple[str, ...], dict[str, dict[str, Any]]]]:
        lines: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        about = columns_of(self._rows)
        for row in self._rows.to_dict("records"):
            key = tuple("" if pd.isna(row[name]) else str(row[name]) for name in about)
            lines.setdefault(key, {})[str(row["comparison"])] = row
        listed = list(lines.items())
        if not self._sorted_by:
            return listed

        def height(line: tuple[tuple[str, ...], dict[str, dict[str, Any]]]) -> float:
            value = float(line[1].get(self._sorted_by, {}).get("value", float("nan")))
            return float("inf") if pd.isna(value) else -value if self._descending else value

        return sorted(listed, key=height)

    def _draw(self) -> None:
        if not len(self._rows):
            self.children = [
                ipywidgets.HTML("<div class='xgap-about'>Nothing computed yet: choose, then press run.</div>")
            ]
            return
        comparisons = list(dict.fromkeys(self._rows["comparison"]))
        bound = float(self._rows["difference"].abs().max()) if self._rows["difference"].notna().any() else 1.0
        lines = self._lines()
        first = self._page * ROWS
        about = columns_of(self._rows)
        several = varying(self._rows) or ["model"]
        self._show_headings(" · ".join(several), comparisons)
        drawn = [self._header, *([self._pages] if len(lines) > ROWS else [])]
        self._number_pages(len(lines))
        for key, cells in lines[first : first + ROWS]:
            words = [part for name, part in zip(about, key, strict=True) if name in several and part]
            label = ipywidgets.HTML(
                f"<div class='xgap-row'>{'<br>'.join(map(escape, words))}</div>",
                layout={"width": LABEL, "min_width": LABEL},
            )
            drawn.append(ipywidgets.HBox([label, *(self._cell(cells.get(name), bound) for name in comparisons)]))
        self.children = [*drawn, ipywidgets.HTML(f"<div class='xgap-about'>{LEGEND}</div>")]

    def _marked(self, name: str) -> str:
        return f"{name} {'▼' if self._descending else '▲'}" if name == self._sorted_by else name

    def _show_headings(self, about: str, comparisons: Sequence[str]) -> None:
        """One heading for what a line is about, and one for each comparison."""
        for name in ("", *comparisons):
            if name not in self._headings:
                self._headings[name] = self._heading(name)
            self._headings[name].description = self._marked(name) if name else about
        self._header.children = [self._headings[name] for name in ("", *comparisons)]

    def _heading(self, sort_by: str) -> ipywidgets.Button:
        what = f"sort by {sort_by}" if sort_by else "back to the table's order"
        layout = {"width": WIDTH if sort_by else LABEL, "height": "34px"}
        button = ipywidgets.Button(tooltip=what, layout=layout)
        button.add_class("xgap-head")
        button.on_click(lambda _: self.sort(sort_by))
        return button

    def _cell(self, row: dict[str, Any] | None, bound: float) -> ipywidgets.Button:
        if row is None:
            words, tint, tooltip = "", MISSING, "not computed"
        else:
            words, tint, tooltip = cell_words(row), _tint(row, bound), cell_tooltip(row)
        button = ipywidgets.Button(
            description=words, tooltip=tooltip, style=self._styles[tint], layout=self._cell_layout, disabled=row is None
        )
        button.add_class("xgap-cell")
        if row is not None:
            button.on_click(lambda _: self._on_open(row))
        return button

    def _number_pages(self, n: int) -> None:
        last = (n - 1) // ROWS
        self._earlier.disabled, self._later.disabled = not self._page, self._page == last
        self._which.value = f"page {self._page + 1} of {last + 1}"

    def _turn(self, by: int) -> None:
        self._page += by
        self._draw()


def columns_of(rows: pd.DataFrame) -> list[str]:
    """The columns that name a line: those of every study, and options on an axis, such as `oti.steps`."""
    return [*ABOUT, *(name for name in rows if "." in name)]


def varying(rows: pd.DataFrame) -> list[str]:
    """The columns that name a line and have several values."""
    return [name for name in columns_of(rows) if name in rows and rows[name].nunique(dropna=False) > 1]


def cell_words(row: Mapping[str, Any]) -> str:
    """What a cell says in two lines."""
    if pd.isna(row["value"]):
        return "n/a"
    seen = " †" if row.get("transductive") is True else ""
    value = f"{row['value']:.3f} [{row['low']:.2f}, {row['high']:.2f}]{seen}"
    star = STARS.get(row.get("against_best", ""), "")
    if pd.isna(row["difference"]):
        return f"{value}\nbaseline{star}"
    mark = ("▲" if row["difference"] > 0 else "▼") if _conclusive(row) else ""
    return f"{value}\nΔ {row['difference']:+.3f} {mark}{star}\np {row['p_adjusted']:.3f}, {row['n_groups']:.0f} groups"


def cell_tooltip(row: Mapping[str, Any]) -> str:
    """All that is known of a cell, in plain text."""
    if pd.isna(row["value"]):
        return str(row.get("note", ""))
    words = f"{row['comparison']} · {row['correction']} · {row['model']} on {row['dataset']} ({row['split']})\n"
    words += f"{row['metric']} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}], {row['n_queries']} queries"
    if not pd.isna(row["difference"]):
        interval = f"[{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]"
        words += f"\nminus {row['baseline']}: {row['difference']:+.4f} {interval}"
        words += f"\np {row['p_value']:.4f}, adjusted {row['p_adjusted']:.4f} ({row['family_size']:.0f} tests), "
        said = ": ".join(word for word in (row["verdict"], row["reason"]) if isinstance(word, str) and word)
        words += f"{row['n_groups']:.0f} groups\n{said}"
        if not pd.isna(row.get("detectable")):
            words += f"\nsmallest effect that would have been seen: {row['detectable']:.4f}"
    against = AGAINST.get(row.get("against_best", ""))
    return f"{words}{f'{chr(10)}{against}' if against else ''}\nclick for the neighbours"


def _tint(row: Mapping[str, Any], bound: float) -> str:
    if pd.isna(row["value"]):
        return MISSING
    if pd.isna(row["difference"]):
        return BASELINE
    share = row["difference"] / bound if bound else 0.0
    tint = sum(share > step for step in STEPS)
    return TINTS[tint if _conclusive(row) else min(max(tint, 1), 3)]  # no strong colour for what may be nothing


def _conclusive(row: Mapping[str, Any]) -> bool:
    return isinstance(row["verdict"], str) and row["verdict"] != INCONCLUSIVE
