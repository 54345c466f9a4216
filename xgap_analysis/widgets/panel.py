"""What all explorers share: the frame, errors in place, the code for the view, and saving it."""

import os
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import Cancelled
from xgap_analysis.experiments.table_files import save_table
from xgap_analysis.widgets.figures import alone
from xgap_analysis.widgets.jobs import Jobs
from xgap_analysis.widgets.keys import OwnKeys
from xgap_analysis.widgets.style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Panel(ipywidgets.VBox):
    """A titled box with controls, a body, and two buttons below. Progress and errors are above the body.

    A subclass gives `code()`, `figure()` and `table()`, and calls `work` for whatever may take long.

    Args:
        title: the heading (plain text).
        controls: from top to bottom.
        body: what they change: rows, a map, a figure.
        below: what stands under the two buttons.
        hints: what a reader should know first, a sentence each (plain text).
    """

    def __init__(
        self,
        title: str,
        controls: Sequence[ipywidgets.Widget],
        body: Sequence[ipywidgets.Widget],
        below: Sequence[ipywidgets.Widget] = (),
        hints: Sequence[str] = (),
    ) -> None:
        self._title = f"{STYLE}<div class='xgap-title'>{escape(title)}</div>"
        self._heading = ipywidgets.HTML()
        self.show_hints(hints)
        self._error = ipywidgets.HTML(layout={"display": "none"})
        self._jobs = Jobs()
        self._code_button = ipywidgets.Button(
            description="code for this view", icon="code", tooltip="the code that gives what is on screen"
        )
        self._save_button = ipywidgets.Button(
            description="save", icon="download", tooltip="figure (PNG, SVG) and table (Parquet, CSV)"
        )
        self._code_button.layout.width = "170px"
        self._save_button.layout.width = "90px"
        self._code_button.on_click(lambda _: self._answered(self._show_code))
        self._save_button.on_click(lambda _: self._answered(self._show_saved))
        self._answer = ipywidgets.VBox()
        # Progress and errors stand beside the controls: below a tall body nobody would see them.
        tools = ipywidgets.HBox([self._code_button, self._save_button])
        shown = [self._heading, *controls, self._jobs, self._error, *body, tools, self._answer, *below]
        super().__init__([*shown, OwnKeys()])
        self.add_class("xgap")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: open the notebook in JupyterLab to use it>"

    def show_hints(self, hints: Sequence[str]) -> None:
        """Shows sentences below the title, in place of those that are there."""
        said = "".join(f"<div class='xgap-hint'>ⓘ {escape(hint)}.</div>" for hint in hints)
        self._heading.value = f"{self._title}{said}"

    @property
    def error(self) -> str:
        """The sentence that is shown as an error, or an empty string."""
        return re.sub("<[^>]*>", "", self._error.value)

    def code(self) -> str:
        """Python that gives what is on screen, by public names only."""
        raise NotImplementedError

    def figure(self) -> "Figure":
        """What is on screen, as a figure for a paper."""
        raise NotImplementedError

    def table(self) -> pd.DataFrame:
        """The numbers on screen."""
        raise NotImplementedError

    def name(self) -> str:
        """The name that files of this view get, without a suffix."""
        raise NotImplementedError

    def save(self) -> list[Path]:
        """Writes figure (PNG, SVG) and table (Parquet, CSV) into the results folder and gives their paths."""
        stem = re.sub(r"[^A-Za-z0-9.=,_-]+", "-", self.name()).strip("-.")[:120]
        table = self.table()
        parquet = save_table(table, f"{stem}.parquet")
        csv, png, svg = (parquet.with_name(f"{stem}.{suffix}") for suffix in ("csv", "png", "svg"))
        table.to_csv(csv, index=False)
        figure = alone(self.figure())
        figure.savefig(png, dpi=200, pil_kwargs={"compress_level": 3})  # the default takes thrice as long for 5 %
        figure.set_layout_engine("none")  # it is laid out already
        figure.savefig(svg)
        return [png, svg, parquet, csv]

    def work(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Computes with progress and cancel, then calls `done` with the result; errors are shown in place."""
        self._say("")
        self.work_on(work, done)

    def work_on(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """As `work`, of which it is a later part: an error that is shown stays."""
        self._jobs.run(work, lambda result: self.guarded(lambda: done(result)), self.show_error)

    def guarded(self, call: Callable[[], Any]) -> None:
        """Call a function; an error is shown in the explorer."""
        try:
            call()
        except Exception as error:  # nothing may end in a log that nobody reads
            self.show_error(error)

    def show_error(self, error: Exception) -> None:
        """Show an error as one sentence."""
        if isinstance(error, Cancelled):
            self._say("Cancelled. Finished work is cached; run again to continue.")
        elif isinstance(error, XgapError):
            self._say(" ".join(str(error).split()))
        elif isinstance(error, OSError):
            self._say(f"the results cannot be written: {error.strerror or error}; XGAP_RESULTS names another folder")
        else:
            first = (str(error).strip() or "no message").splitlines()[0]
            self._say(f"this is a fault of the widget, please report it: {type(error).__name__}: {first}")

    def _answered(self, call: Callable[[], Any]) -> None:
        """Calls what a button below the body is for; an error is shown below that button too."""
        try:
            call()
        except Exception as error:  # as `guarded`
            self.show_error(error)
            self._answer.children = [self._error]

    def _say(self, sentence: str) -> None:
        self._error.layout.display = "" if sentence else "none"
        self._error.value = f"<div class='xgap-error' role='alert'>{escape(sentence)}</div>" if sentence else ""

    def _show_code(self) -> None:
        code = self.code()
        area = ipywidgets.Textarea(code, rows=code.count("\n") + 2, layout={"width": "100%", "height": "auto"})
        area.add_class("xgap-code")
        self._answer.children = [ipywidgets.Label("Copy into a cell:"), area]

    def _show_saved(self) -> None:
        paths = self.save()
        listed = "".join(f"<li>{escape(os.path.relpath(path))}</li>" for path in paths)
        self._answer.children = [ipywidgets.HTML(f"<div>Saved:<ul class='xgap-files'>{listed}</ul></div>")]
