"""`xgap report`."""

from dataclasses import dataclass
from pathlib import Path

from xgap_analysis.cli.arguments import Name
from xgap_analysis.cli.output import note, say
from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Report:
    """Run the notebooks without a browser and write their pages, figures and tables, with an index page.

    Example:
        xgap report
        xgap report --notebooks notebooks/00_quickstart.ipynb --model tiny-intra --out results/intra
    """

    notebooks: tuple[Path, ...] = ()
    """Notebooks to run; by default all of the repository."""
    out: Path = Path("results/report")
    """Folder for index.html, results.parquet, pages, figures and tables."""
    model: Name = None
    """Replaces MODEL in the notebooks."""
    dataset: Name = None
    """Replaces DATASET in the notebooks."""
    plugin: Plugins = ()
    """A Python file with your own extensions, which is run first, here and in each notebook."""
    timeout: int = 1800
    """Time limit of one cell, in seconds."""
    quiet: bool = False
    """No progress and no notes; errors and warnings are printed all the same."""

    def run(self) -> int:
        """Run the notebooks, print the main table."""
        from xgap_analysis.cli.page import NotebookError, find_notebooks, make_report
        from xgap_analysis.experiments.tables import as_text, main_results

        notebooks = find_notebooks(self.notebooks)
        # A wrong name is found here, and not by the first notebook that uses it.
        if self.model is not None:
            from xgap_analysis.models import load_model

            load_model(self.model)
        if self.dataset is not None:
            from xgap_analysis.datasets import load_dataset

            load_dataset(self.dataset)
        named = {"MODEL": self.model, "DATASET": self.dataset}
        parameters = {name: value for name, value in named.items() if value is not None}
        try:
            report = make_report(notebooks, self.out, parameters=parameters, plugins=self.plugin, timeout=self.timeout)
        except NotebookError as error:
            note(f"error: {error}")
            return 1
        if len(report.table):
            say(as_text(main_results(report.table)))
        else:
            note("no notebook wrote a study*.parquet, so the report has no results")
        say(f"\nopen {report.index}")
        return 0
