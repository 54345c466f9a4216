"""`xgap train`."""

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from xgap_analysis.cli.arguments import File, Name, Number, Real
from xgap_analysis.cli.output import note, print_rows
from xgap_analysis.cli.plugins import Plugins
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    from xgap_analysis.training import Recipe


OF_ONE_RUN = {
    "seed": None,
    "split": "train",
    "eval_split": "val",
    "eval_every": None,
    "checkpoints": (),
    "save_every": 200,
}
OF_SEEDS = {"limit": None, "processes": 1}


@dataclass(frozen=True)
class Train:
    """Train a model with a weighted sum of objectives; the same command resumes an interrupted run.

    Example:
        xgap train --model tiny --out results/train/kept --temperature 0.01 --steps 100
        xgap train --model tiny-untrained --scratch --objective clip=1 image-image=0.5 --out results/train/intra
        xgap train --objective clip=1 "arc-margin(margin=0.3)=0.5" --adapter "head(width=64)" --out results/train/head
        xgap train --recipe optimizing-clip --steps 200 --out results/train/two-stages
        xgap train --recipe vse --seeds 0 1 2 --steps 100 --limit 50 --out results/train/vse
        xgap train --list
        xgap train --model ViT-B-32/openai --dataset /my/pairs.csv --micro-batch 64 --precision bf16 --out results/run
    """

    out: File = None
    """Folder of the run: the checkpoints last, best and step-N (open_clip directories), and curve.parquet."""
    recipe: Name = None
    """The recipe of a published system by name (see --list); other options override its settings."""
    list: bool = False
    """List the named recipes instead of training."""
    model: str = "tiny"
    """The model to start from, by name or path (see xgap models)."""
    dataset: str = "emoji"
    """A dataset by name or path (see xgap datasets); images and captions with the same label are pairs."""
    split: str = "train"
    """The split to train on."""
    eval_split: Name = "val"
    """The split to evaluate on and to choose the best checkpoint by; without that split, nothing is evaluated."""
    objective: tuple[str, ...] = ()
    """Terms with their options and weights, such as clip=1 "arc-margin(margin=0.3)=0.5" (see xgap objectives); clip=1
    by default."""
    adapter: Name = None
    """Train an adapter instead of the model's own weights, such as "head(width=64)" (see xgap adapters)."""
    steps: Number = None
    """Number of updates, 1000 by default; of each stage if the recipe has stages."""
    batch: Number = None
    """Items per step, 128 by default."""
    sampler: Name = None
    """labels (each item with a different label; the default), or "shared(items=2)" (this many items of each label)."""
    micro_batch: Number = None
    """Items encoded at a time, to save memory; the gradient is still that of the whole batch."""
    image_views: Number = None
    """Augmentations per image, unless the objective needs more; 1 by default."""
    caption_views: Number = None
    """Captions per image in a step, unless the objective needs more; 1 by default."""
    captions: Name = None
    """Which captions of an item are used: one (the default), "mix(p=0.5)", all, first_sentence, or "near(top=20,
    threshold=0.27)"."""
    dropout: Name = None
    """none (the default), or a modality that is left out of an item at a rate, such as "text(p=0.5)"."""
    augmentation: Name = None
    """none, crop (the default), or simclr (crops, colours, flips)."""
    templates: tuple[str, ...] = ()
    """Templates for captions; one is drawn at random for each caption. "{}" by default."""
    learning_rate: Real = None
    """Peak learning rate of AdamW, 0.0005 by default, after a linear warm-up and before a cosine decay to zero."""
    weight_decay: Real = None
    """Weight decay of AdamW, 0.1 by default."""
    warmup: Number = None
    """Warm-up steps, 50 by default."""
    temperature: tuple[str, ...] = ()
    """learned (the default), a fixed number, or two numbers for a schedule from the first to the second."""
    towers: Name = None
    """The towers to train: both (the default), image or text."""
    token_dropout: Real = None
    """Dropout rate of the token embeddings, 0 by default."""
    scratch: bool = False
    """Start from random weights."""
    precision: Name = None
    """fp32 (the default), bf16 or fp16."""
    seed: Number = None
    """Seed of batches, augmentations and random weights, 0 by default."""
    seeds: tuple[int, ...] = ()
    """Train once with each of these seeds, evaluate each run on the split test, and print how far apart the runs are;
    --out then holds a folder for each run, and the numbers of all (runs.parquet)."""
    limit: Number = None
    """With --seeds: evaluate only this many labels, with all of their items."""
    processes: int = 1
    """With --seeds: number of trainings at a time, each in a process of one thread."""
    eval_every: Number = None
    """Steps between two evaluations; by default only the last step is evaluated."""
    checkpoints: tuple[int, ...] = ()
    """Numbers of updates after which the model is saved as step-N."""
    save_every: int = 200
    """Steps between two saved states; an interrupted run loses at most this many."""
    device: Name = None
    """Device, such as cuda:1; by default a GPU if there is one."""
    workers: int = 0
    """Number of processes that load images."""
    plugin: Plugins = ()
    """A Python file with your own objectives, recipes, adapters, models or datasets, which is run first."""
    json: bool = False
    """Print the curve as JSON."""
    quiet: bool = False
    """No progress and no notes; errors and warnings are printed all the same."""

    def run(self) -> int:
        """Train, and print where the checkpoints are."""
        from xgap_analysis.cli.lists import print_known, recipes
        from xgap_analysis.datasets import load_dataset
        from xgap_analysis.training import train

        if self.list:
            print_known(recipes(), self.json)
            return 0
        if self.out is None:
            raise XgapError("xgap train needs --out FOLDER, the folder of the run")
        recipe = self._recipe()
        if self.seeds:
            return self._repeated(recipe)
        alone = next((name for name, default in OF_SEEDS.items() if getattr(self, name) != default), None)
        if alone is not None:
            raise XgapError(f"--{alone} is for several runs: give --seeds 0 1 2 too")
        whole = load_dataset(self.dataset)
        eval_data = None
        if self.eval_split is not None and self.eval_split in whole.splits:
            eval_data = whole.split(self.eval_split)
        made = train(
            self.model,
            whole.split(self.split),
            self.out,
            recipe,
            eval_data=eval_data,
            eval_every=self.eval_every,
            checkpoints=self.checkpoints,
            save_every=self.save_every,
            device=self.device,
            workers=self.workers,
        )
        rows = made.curve.tail(len(made.curve) if self.json else 5)
        rows = rows.astype(object) if self.json else rows.map(lambda x: f"{x:.4g}" if isinstance(x, float) else x)
        print_rows(rows.where(rows.notna(), None).to_dict("records"), self.json)
        if eval_data is None:
            note(f"dataset {whole.name!r} has no split {self.eval_split!r}: nothing is evaluated, and best is last")
        note(f"the best is {made.best}, the last {made.last}")
        return 0

    def _repeated(self, recipe: "Recipe") -> int:
        from pathlib import Path

        from xgap_analysis.experiments.spread import repeated, spread, spread_words
        from xgap_analysis.experiments.table_files import save_table

        changed = [name for name, default in OF_ONE_RUN.items() if getattr(self, name) != default]
        if changed:
            option = changed[0].replace("_", "-")
            raise XgapError(f"--{option} is of one run; with --seeds, train without it, or run each seed by itself")
        if self.processes > 1 and self.plugin:
            raise XgapError("--plugin works in one process only; leave --processes out")
        out = Path(str(self.out))
        how: dict[str, Any] = {"model": self.model, "dataset": self.dataset, "folder": out, "limit": self.limit}
        how |= {"device": self.device, "workers": self.workers, "processes": self.processes}
        table = repeated({self.recipe or "recipe": recipe}, seeds=self.seeds, **how)
        save_table(table, out / "runs.parquet")
        found = spread(table)
        plain = found.astype(object).where(found.notna(), None).to_dict("records")
        print_rows(plain if self.json else spread_words(found), self.json)
        note(f"{len(self.seeds)} runs are in {out}, and their numbers in {out / 'runs.parquet'}")
        return 0

    def _recipe(self) -> "Recipe":
        """The recipe by name, if there is one, with what is given beside it; a default of `Recipe` may be given too."""
        from xgap_analysis.training import Recipe, recipe

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {name: v for name, v in values.items() if v is not None and v is not False and v != ()}
        ways: dict[str, Any] = {"objective": self._terms, "temperature": self._temperature}
        changes: dict[str, Any] = {
            name: ways[name]() if name in ways else value
            for name, value in given.items()
            if name in Recipe.__dataclass_fields__
        }
        if self.recipe is None:
            return Recipe(**changes)
        named = recipe(self.recipe)
        of_stages = sorted({name for stage in named.stages for name in stage} & changes.keys())
        if of_stages:
            option = of_stages[0].replace("_", "-")
            raise XgapError(f"recipe {self.recipe!r} sets --{option} for each stage; leave --{option} out")
        return replace(named, **changes)

    def _terms(self) -> dict[str, float]:
        terms: dict[str, float] = {}
        for text in self.objective:
            written = re.fullmatch(r"([^=(]+(?:\(.*\))?)(?:=(.*))?", text)
            try:
                name, weight = (written[1].strip(), float(written[2] or 1)) if written else ("", 0.0)
            except ValueError:
                name = ""
            if not name:
                raise XgapError(f"a term of the objective is written name=weight, not {text!r}")
            if name in terms:
                raise XgapError(f"term {name!r} is in the objective twice; give it one weight")
            terms[name] = weight
        return terms

    def _temperature(self) -> str | float | tuple[float, float]:
        if self.temperature == ("learned",):
            return "learned"
        try:
            numbers = [float(text) for text in self.temperature]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            raise XgapError(f"--temperature is learned, a number or two, not {' '.join(self.temperature)!r}")
        return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
