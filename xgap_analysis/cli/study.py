"""`xgap study`."""

from dataclasses import dataclass, replace
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
        xgap study --corrections none center "pca-text(rank=32)" --seeds 1 2 3 --out results/study.parquet
        xgap study --table corrections
    """

    table: Name = None
    """A grid by name (corrections); what is given beside it replaces its part of the grid."""
    models: Annotated[tuple[str, ...] | None, tyro.conf.arg(help_behavior_hint="(default: tiny, or the table's)")] = (
        None
    )
    """Models by name or path (see xgap models)."""
    datasets: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(help_behavior_hint="(default: emoji, or the table's)")
    ] = None
    """Data sets by name (see xgap datasets)."""
    comparisons: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all, or the table's)")] = ()
    """Query view and gallery view: I-I, OTI-I, OTI-OTI, I+OTI-I, T-T, OVI-T, OVI-OVI, T+OVI-T, I-T, T-I, zero-shot,
    OTI-T, I-OVI."""
    corrections: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(help_behavior_hint="(default: none, or the table's)")
    ] = None
    """What is done to the vectors before they meet, with options or without: center "isoclip(k_top=20, k_bottom=8)"."""
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
    only: Name = None
    """zero-shot-correct judges the images alone that zero-shot classification gets right."""
    on_error: str = "raise"
    """What an unreadable image does: raise, or skip it and say so."""
    device: Name = None
    """Where the models compute, cuda:1 say; the GPU by default, where there is one."""
    precision: str = "fp32"
    """fp32, or bf16 / fp16 for autocast."""
    out: Path = Path("results/study.parquet")
    """Where the whole table is written."""
    json: bool = False
    """Print every row as JSON."""

    def run(self) -> int:
        """Run, write, print."""
        from xgap_analysis.cli.features import check_writable, split_of
        from xgap_analysis.grids import Grid, grid
        from xgap_analysis.models import load_model
        from xgap_analysis.study import COMPARISONS, Study, save_table
        from xgap_analysis.tables import as_text, main_results

        for name in ("models", "datasets", "corrections"):
            if getattr(self, name) == ():
                raise XgapError(f"--{name} needs at least one name")
        chosen = grid(self.table) if self.table else Grid(comparisons=tuple(COMPARISONS))
        given = {name: getattr(self, name) for name in ("models", "datasets", "comparisons", "corrections", "limit")}
        chosen = replace(chosen, **{name: value for name, value in given.items() if value})
        if self.out.suffix != ".parquet":
            raise XgapError(f"the table is written as .parquet, and {str(self.out)!r} is not")
        check_writable(self.out)
        # Every name is looked up before the first hour is spent on any.
        for name in chosen.datasets:
            split_of(name, self.split, chosen.limit).relevance(self.level)
        study = Study(
            chosen.models,
            chosen.datasets,
            chosen.comparisons,
            chosen.corrections,
            level=self.level,
            split=self.split,
            seeds=self.seeds,
            steps=self.steps,
            tokens=self.tokens,
            limit=chosen.limit,
            only=self.only,
            on_error=self.on_error,
            device=self.device,
            precision=self.precision,
        )
        for name in chosen.models if len(chosen.models) > 1 else ():
            load_model(name, device=self.device, precision=self.precision)
        table = study.run()
        save_table(table, Path.cwd() / self.out)  # a bare name is meant as it stands
        if self.json:
            say(table.to_json(orient="records", double_precision=15))
        else:
            say(as_text(main_results(table)))
        note(f"{len(table)} rows are in {self.out}")
        return 0
