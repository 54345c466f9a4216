"""`xgap study`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from xgap_analysis.cli.arguments import Name, Number
from xgap_analysis.cli.output import note, say
from xgap_analysis.errors import XgapError


@dataclass(frozen=True)
class Study:
    """Run a grid of models, data sets, comparisons and corrections, and print its main results.

    Example:
        xgap study --models tiny tiny-intra --comparisons I-I OTI-I --limit 50
        xgap study --corrections none center --seeds 1 2 3 --out results/study.parquet
    """

    models: tuple[str, ...] = ("tiny",)
    """Models by name or path (see xgap models)."""
    datasets: tuple[str, ...] = ("emoji",)
    """Data sets by name (see xgap datasets)."""
    comparisons: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all)")] = ()
    """Query view and gallery view: I-I, OTI-I, OTI-OTI, T-T, OVI-T, OVI-OVI, I-T, T-I, zero-shot, OTI-T, I-OVI."""
    corrections: tuple[str, ...] = ("none",)
    """What is done to the vectors before they meet."""
    split: str = "test"
    """The split that is judged."""
    level: Name = None
    """The labels that define relevance; the data set's first by default."""
    limit: Number = None
    """Judge this many labels only (a smaller, fair task)."""
    steps: Number = None
    """Inversion steps; the paper's by default (150 for images, 1000 for texts)."""
    tokens: Number = None
    """Pseudo-tokens for each item; the paper's by default."""
    seeds: tuple[int, ...] = (42,)
    """One inversion is run for each."""
    out: Path = Path("results/study.parquet")
    """Where the whole table is written."""
    json: bool = False
    """Print every row as JSON."""

    def run(self) -> int:
        """Run, write, print."""
        from xgap_analysis.cli.features import check_writable, split_of
        from xgap_analysis.models import load_model
        from xgap_analysis.study import COMPARISONS, Study, save_table
        from xgap_analysis.tables import as_text, main_results

        for name in ("models", "datasets", "corrections"):
            if not getattr(self, name):
                raise XgapError(f"--{name} needs at least one name")
        if self.out.suffix != ".parquet":
            raise XgapError(f"the table is written as .parquet, and {str(self.out)!r} is not")
        check_writable(self.out)
        # Every name is looked up before the first hour is spent on any.
        for name in self.datasets:
            split_of(name, self.split, self.limit).relevance(self.level)
        study = Study(
            self.models,
            self.datasets,
            self.comparisons or tuple(COMPARISONS),
            self.corrections,
            level=self.level,
            split=self.split,
            seeds=self.seeds,
            steps=self.steps,
            tokens=self.tokens,
            limit=self.limit,
        )
        for name in self.models if len(self.models) > 1 else ():
            load_model(name)
        table = study.run()
        save_table(table, Path.cwd() / self.out)  # a bare name is meant as it stands
        if self.json:
            say(table.to_json(orient="records", double_precision=15))
        else:
            say(as_text(main_results(table)))
        note(f"{len(table)} rows are in {self.out}")
        return 0
