"""`xgap study`."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from xgap_analysis.cli.arguments import File, Name, Number, Precision
from xgap_analysis.cli.output import note, say
from xgap_analysis.cli.plugins import Plugins
from xgap_analysis.core.calls import listed
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd

    from xgap_analysis.experiments.papers.grids import Grid
    from xgap_analysis.experiments.study import Study as StudyOfModels

NAMES = "[STR [STR ...]]"  # how the help writes one name or more
AS_THEY_ARE = (  # options that are parts of a study of models of the same name
    *("label_set", "split", "fit_split", "steps", "tokens", "only", "on_error"),
    *("device", "precision", "batch_size", "num_workers"),
)


@dataclass(frozen=True)
class Study:
    """Run a grid of models, datasets, comparisons, corrections and scorers, and print its main results.

    Example:
        xgap study --models tiny tiny-intra --comparisons I-I OTI-I --limit 50
        xgap study --corrections none center "pca-text(rank=32)" --seeds 1 2 3 --out results/study.parquet
        xgap study --table image-retrieval --models ViT-B-32/openai --datasets paper
        xgap study --datasets ./my/folder --comparisons I-I OTI-I zero-shot --on-error skip
        xgap study --features audio.npy video.npy --labels labels.csv --corrections none center
        xgap study --comparisons I-I OTI-I --axes oti.steps=10,50,150 --limit 50
        xgap study --datasets emoji-clips --comparisons text-frames --scorers "late_interaction(inner=max)" x_pool
        xgap study --table atlas --out results/atlas.parquet
    """

    table: Name = None
    """A named grid: image-retrieval, text-retrieval, zero-shot, slip, drift, isoclip, pca, dogs-vs-cats (with the
    published results next to ours), or corrections; one that trains its models first: intra, temperature, objectives or
    adapters; or atlas (what every published system changes). Other options override its parts; "paper" as a model or
    dataset stands for those of the paper."""
    features: tuple[Path, ...] = ()
    """Two or more files of vectors, instead of models and datasets: .npy, .npz, .parquet, .safetensors, or folders
    written by clip-retrieval."""
    labels: File = None
    """With --features: a table with the columns label, id (row numbers if missing) and split (rows marked train are
    what corrections and learned scorers are fitted on)."""
    spaces: tuple[str, ...] = ()
    """With --features: the modality of each file, such as audio video; by default from the file, or its name."""
    keys: tuple[str, ...] = ()
    """With --features: the array or column with the vectors, one name for all files or one per file, if it is not
    named vectors (.npz, .safetensors) or vector (.parquet)."""
    models: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar=NAMES, help_behavior_hint="(default: tiny, or the table's)")
    ] = None
    """Models by name or path (see xgap models)."""
    datasets: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar=NAMES, help_behavior_hint="(default: emoji, or the table's)")
    ] = None
    """Datasets by name (see xgap datasets), or your own by path: a folder of class folders, a .csv, .jsonl or .parquet
    of images and captions, .tar shards, a saved Hugging Face dataset; with options, as in "./photos(train_share=0.5)",
    which sets half of the items aside for what is fitted."""
    comparisons: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar=NAMES, help_behavior_hint="(default: all, or the table's)")
    ] = None
    """Query view and gallery view: I-I, OTI-I, OTI-OTI, I+OTI-I, T-T, OVI-T, OVI-OVI, T+OVI-T, I-T, T-I, zero-shot,
    OTI-T, I-OVI; or any two views (see xgap views), as in "oti(steps=25)-image"."""
    corrections: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar=NAMES, help_behavior_hint="(default: none, or the table's)")
    ] = None
    """Corrections of features or scores, with or without options (see xgap corrections), such as center
    "isoclip(k_top=20, k_bottom=8)"."""
    scorers: tuple[str, ...] = ("cosine",)
    """How a pair is scored, with or without options (see xgap scorers), such as "late_interaction(inner=max)"; a
    learned scorer, such as "x_pool(epochs=1)", is fitted on --fit-split first."""
    metrics: tuple[str, ...] = ()
    """Metrics in addition to those of the task, with or without options (see xgap metrics)."""
    main: Name = None
    """The main metric, which verdicts are about: a metric with one value, or a column; the task's by default."""
    axes: tuple[str, ...] = ()
    """Options and settings with several values, each a column of the table: oti.steps=10,50,150 isoclip.k_top=0,8
    split=val,test."""
    split: str = "test"
    """The split that is evaluated."""
    fit_split: str = "train"
    """The split that corrections and learned scorers are fitted on (use val if the train images are the gallery)."""
    label_set: Name = None
    """The label set that defines relevance; the dataset's first by default."""
    limit: Number = None
    """Evaluate only this many labels, with all of their items (a smaller task of the same kind)."""
    steps: Number = None
    """Inversion steps; by default as in the paper (150 for images, 1000 for texts)."""
    tokens: Number = None
    """Pseudo-tokens per item; by default as in the paper."""
    seeds: Annotated[
        tuple[int, ...] | None,
        tyro.conf.arg(metavar="[INT [INT ...]]", help_behavior_hint="(default: 42, or the table's)"),
    ] = None
    """Seeds of the inversion, which is repeated for each; with a table that trains, of the training."""
    only: Name = None
    """zero-shot-correct: evaluate only images that zero-shot classification classifies correctly."""
    on_error: str = "raise"
    """What to do with an image that cannot be read: raise an error, or skip it with a warning."""
    engine: str = "local"
    """Who computes: local, this process; ranks, one of the processes that torchrun, srun or a Slurm array has started
    on one store; ray, the workers of a Ray cluster. With options: "ranks(patience=60)", "ray(workers=4, gpus=0.5)"."""
    retry_failed: bool = False
    """Compute items again whose failure is kept (an image that could not be read)."""
    device: Name = None
    """Device of the models, such as cuda:1; by default a GPU if there is one."""
    precision: Precision = "fp32"
    """Precision of the model and of the inversion: fp32, or bf16 or fp16 (autocast, weights in half precision)."""
    batch_size: Number = None
    """Items that are encoded, and inverted, at once; by default what suits the device."""
    num_workers: Number = None
    """Processes that read images, 0 for threads; by default what suits the number of images and cores."""
    plugin: Plugins = ()
    """A Python file with your own views, scorers, corrections, metrics, models or datasets, which is run first."""
    quick: bool = False
    """With a table that trains: only two updates on eight items and six labels, a test run of a minute. With the atlas:
    six labels, and fits of one epoch."""
    processes: int = 1
    """With a table that trains: number of trainings at a time, each in a process of one thread."""
    dry_run: bool = False
    """Print what would be computed and about how long it takes here, and stop."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: results/study.parquet)")
    ] = None
    """File for the table: every row (.parquet, .csv), or the main rows for a paper (.tex, .md). Without it the first of
    study.parquet, study-2.parquet, ... that does not exist in the results folder (XGAP_RESULTS, or results)."""
    overwrite: bool = False
    """Replace the file that --out names."""
    json: bool = False
    """Print every row as JSON."""
    quiet: bool = False
    """No progress and no notes; errors and warnings are printed all the same."""

    def run(self) -> int:
        """Run, write, print."""
        from xgap_analysis.cli.atlas import is_atlas
        from xgap_analysis.cli.planned import print_plan, table_file
        from xgap_analysis.cli.trained import is_trained
        from xgap_analysis.experiments.table_files import save_table
        from xgap_analysis.experiments.tables import as_text, main_results

        printing = self._of_atlas if is_atlas(self) else self._of_training if is_trained(self) else None
        for name in ("models", "datasets", "comparisons", "corrections", "seeds"):
            if getattr(self, name) == ():
                raise XgapError(f"--{name} needs at least one name")
        if self.dry_run:
            if printing or self.features:
                raise XgapError("--dry-run plans studies of models: leave out --features, and tables that train")
            print_plan(self._grid()[1], self.json)
            return 0
        out = table_file(self.out, self.overwrite)
        table = printing() if printing else features_table(self) if self.features else self._of_models()
        save_table(table, Path.cwd() / out)  # a bare name is meant as it stands
        if self.json:
            say(table.to_json(orient="records", double_precision=15))
        elif not printing:
            say(as_text(main_results(table)))
        note(f"{len(table)} rows are in {out}")
        return 0

    def _of_atlas(self) -> "pd.DataFrame":
        from xgap_analysis.cli.atlas import atlas_table, printed

        table = atlas_table(self)
        if not self.json:
            say(printed(table))
        return table

    def _of_training(self) -> "pd.DataFrame":
        from xgap_analysis.cli.trained import printed, trained_table

        table = trained_table(self)
        if not self.json:
            say(printed(table, str(self.table)))
        return table

    def _of_models(self) -> "pd.DataFrame":
        from xgap_analysis.experiments.papers.reproduction import run_grid
        from xgap_analysis.models import load_model

        chosen, study = self._grid()
        for name in study.models if len(study.models) > 1 else ():
            load_model(str(name), device=self.device, precision=self.precision)
        return run_grid(chosen, study) if self.table else study.run()

    def _grid(self) -> "tuple[Grid, StudyOfModels]":
        """The named grid, or all comparisons; and the study that it and the options make."""
        from xgap_analysis.cli.features import leading, split_of
        from xgap_analysis.experiments.papers.grids import Grid, expanded, grid
        from xgap_analysis.experiments.study import COMPARISONS
        from xgap_analysis.experiments.study import Study as StudyOfModels
        from xgap_analysis.store import Store

        if self.labels or self.spaces or self.keys:
            raise XgapError("--labels, --spaces and --keys belong to --features")
        chosen = grid(self.table) if self.table else Grid(comparisons=tuple(COMPARISONS))
        models = expanded(self.models or chosen.models, chosen.paper_models)
        datasets = expanded(self.datasets or chosen.datasets, chosen.paper_datasets)
        limit = self.limit if self.limit is not None or self.datasets else chosen.limit
        axes = parsed_axes(self.axes)
        # Every name is looked up before the first hour is spent on any.
        for name, split in itertools.product(datasets, axes.get("split", (self.split,))):
            split_of(name, split, limit).relevance(self.label_set)
        study = StudyOfModels(
            models,
            datasets,
            self.comparisons or chosen.comparisons,
            self.corrections or chosen.corrections,
            self.scorers,
            axes,
            self.metrics,
            self.main,
            seeds=self.seeds or (42,),
            limit=limit,
            **{name: getattr(self, name) for name in AS_THEY_ARE},
            store=Store(retry_failed=self.retry_failed),
            engine=leading(self.engine),
        )
        return chosen, study


def features_table(given: Study) -> "pd.DataFrame":
    """Print how far apart the files of `--features` are, and give the table of their comparisons.

    Raises:
        XgapError: an option that is about models.
    """
    from xgap_analysis.experiments.tables import as_text, summary
    from xgap_analysis.experiments.vectors import study_of_files

    if given.table or given.models or given.datasets:
        raise XgapError("--features replaces models and datasets: leave --table, --models, --datasets out")
    if given.engine != "local" or given.retry_failed:
        raise XgapError("--features are computed already: leave --engine and --retry-failed out")
    study = study_of_files(
        given.features,
        given.labels,
        given.spaces,
        given.comparisons or None,
        given.corrections or ("none",),
        given.keys,
    )
    study = replace(study, scorers=given.scorers, axes=parsed_axes(given.axes), metrics=given.metrics, main=given.main)
    if not given.json and len(given.features) > 2:
        say(as_text(summary(study.gap_table()).reset_index().to_dict("records")) + "\n")
    elif not given.json:
        gaps = study.gaps().iloc[0].drop(["model", "dataset", "split", "label_set"]).dropna()  # what needs labels
        say(as_text([{"measure": name, "value": f"{value:.4g}"} for name, value in gaps.items()]) + "\n")
    return study.run()


def parsed_axes(given: Sequence[str]) -> dict[str, list[Any]]:
    """Axes of a study from `name=value,value`; a value is a Python literal, a call such as `oti(steps=25)`, or a word.

    Raises:
        XgapError: an axis without values, or given twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not name or not equals or not values.strip():
            raise XgapError(f"an axis is written name=value,value, such as oti.steps=10,50,150, not {text!r}")
        if name in axes:
            raise XgapError(f"axis {name!r} is given twice; write all of its values behind one {name}=")
        axes[name] = listed(values)
    return axes
