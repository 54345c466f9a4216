"""`xgap gaps`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xgap_analysis.cli.arguments import File, Name, Number
from xgap_analysis.cli.output import note, say
from xgap_analysis.cli.plugins import Plugins
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd

    from xgap_analysis.experiments.study import Study


FORMS = (".parquet", ".csv")


@dataclass(frozen=True)
class Gaps:
    """Print the gap between every pair of modalities with intervals, and whether it goes with retrieval.

    Example:
        xgap gaps --models tiny-audio --datasets emoji-spoken --limit 50
        xgap gaps --features image.npy text.npy audio.npy --labels labels.csv
        xgap gaps --models tiny tiny-nogap --json
    """

    models: tuple[str, ...] = ("tiny",)
    """Models by name or path (see xgap models)."""
    datasets: tuple[str, ...] = ("emoji",)
    """Datasets by name or path (see xgap datasets)."""
    features: tuple[Path, ...] = ()
    """Two or more files of vectors, one per modality, instead of models and datasets (as in xgap study)."""
    labels: File = None
    """With --features: a table with the columns label and id (row numbers if missing)."""
    spaces: tuple[str, ...] = ()
    """With --features: the modality of each file; by default from the file, or its name."""
    keys: tuple[str, ...] = ()
    """With --features: the array or column with the vectors, one name for all files or one per file."""
    split: str = "test"
    """The split that is evaluated."""
    label_set: Name = None
    """The label set whose labels are pairs, and are drawn whole; the dataset's first by default."""
    limit: Number = None
    """Only this many labels, with all of their items."""
    plugin: Plugins = ()
    """A Python file with your own models or datasets, which is run first."""
    out: File = None
    """File for every row of the table (.parquet, .csv)."""
    overwrite: bool = False
    """Replace the file that --out names."""
    json: bool = False
    """Print every row as JSON."""
    quiet: bool = False
    """No progress and no notes; errors and warnings are printed all the same."""

    def run(self) -> int:
        """Compute, print, and write where a file is named."""
        from xgap_analysis.cli.planned import table_file
        from xgap_analysis.experiments.table_files import save_table
        from xgap_analysis.experiments.tables import as_text, summary
        from xgap_analysis.metrics import gap_ranks

        if self.out is not None and self.out.suffix not in FORMS:
            raise XgapError(f"every row is written as {' or '.join(FORMS)}, and {str(self.out)!r} is neither")
        if self.out is not None:
            table_file(self.out, self.overwrite)
        table = self._study().gap_table()
        if self.out is not None:
            save_table(table, Path.cwd() / self.out)
            note(f"{len(table)} rows are in {self.out}")
        if self.json:
            say(table.to_json(orient="records", double_precision=15))
            return 0
        say(as_text(summary(table).reset_index().to_dict("records")))
        sizes = table.groupby(["model", "dataset"])[["x", "y"]].agg(set)
        if all(len(x | y) > 2 for x, y in sizes.itertuples(index=False)):
            say("\nrank correlation of each measure with ap, over pairs of modalities:\n" + _ranks(gap_ranks(table)))
        return 0

    def _study(self) -> "Study":
        from xgap_analysis.experiments.study import Study
        from xgap_analysis.experiments.vectors import study_of_files

        if self.features:
            chosen = {name: getattr(self, name) for name in ("models", "datasets", "split", "label_set", "limit")}
            unread = [name for name, value in chosen.items() if value != getattr(type(self), name)]
            if unread:
                options = ", ".join(f"--{name.replace('_', '-')}" for name in unread)
                raise XgapError(f"--features replaces models and datasets: leave {options} out")
            return study_of_files(self.features, self.labels, self.spaces, keys=self.keys)
        if self.labels or self.spaces or self.keys:
            raise XgapError("--labels, --spaces and --keys belong to --features")
        return Study(self.models, self.datasets, label_set=self.label_set, split=self.split, limit=self.limit)


def _ranks(ranks: "pd.DataFrame") -> str:
    from xgap_analysis.experiments.tables import as_text

    rows = [
        {
            "measure": row.measure,
            "spearman": f"{row.spearman:.2f}",
            "p": f"{row.p_value:.2f}",
            "pairs": row.n_pairs,
        }
        for row in ranks.itertuples()
    ]
    return as_text(rows)
