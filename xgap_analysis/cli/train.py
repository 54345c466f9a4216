"""`xgap train`."""

import re
from dataclasses import dataclass
from pathlib import Path

from xgap_analysis.cli.arguments import Name, Number
from xgap_analysis.cli.output import note, print_rows
from xgap_analysis.cli.plugins import Plugins
from xgap_analysis.core.errors import XgapError


@dataclass(frozen=True)
class Train:
    """Train a model with a weighted sum of objectives; the same command resumes an interrupted run.

    Example:
        xgap train --model tiny --out results/train/kept --temperature 0.01 --steps 100
        xgap train --model tiny-untrained --scratch --objective clip=1 image-image=0.5 --out results/train/intra
        xgap train --objective clip=1 "arc-margin(margin=0.3)=0.5" --adapter "head(width=64)" --out results/train/head
        xgap train --model ViT-B-32/openai --dataset /my/pairs.csv --micro-batch 64 --precision bf16 --out results/run
    """

    out: Path
    """Folder of the run, for last and best (open_clip directories), step-N and curve.parquet."""
    model: str = "tiny"
    """The model to start from, by name or path (see xgap models)."""
    dataset: str = "emoji"
    """A dataset by name or path (see xgap datasets); images and captions with the same label are pairs."""
    split: str = "train"
    """The split to train on."""
    judge_split: Name = "val"
    """The split to choose the best checkpoint on."""
    objective: tuple[str, ...] = ("clip=1",)
    """Terms with their options and weights, such as clip=1 "arc-margin(margin=0.3)=0.5" (see xgap objectives)."""
    adapter: Name = None
    """Train an adapter instead of the model's own weights, such as "head(width=64)" (see xgap adapters)."""
    steps: int = 1000
    """Number of updates."""
    batch: int = 128
    """Items per step, each with a different label."""
    micro_batch: Number = None
    """Items that go through the towers at a time, to save memory; the gradient is still that of the whole batch."""
    image_views: int = 1
    """Augmentations per image, if the objective does not need more."""
    captions: int = 1
    """Captions per image, if the objective does not need more."""
    augmentation: str = "crop"
    """none, crop, or simclr (crops, colours, flips)."""
    templates: tuple[str, ...] = ("{}",)
    """Templates for captions; one is drawn at random for each caption."""
    learning_rate: float = 5e-4
    """Peak learning rate of AdamW, after a linear warm-up and before a cosine decay to zero."""
    weight_decay: float = 0.1
    """Weight decay of AdamW."""
    warmup: int = 50
    """Warm-up steps."""
    temperature: tuple[str, ...] = ("learned",)
    """learned, a fixed number, or two numbers for a schedule from the first to the second."""
    towers: str = "both"
    """The towers to train: both, image or text."""
    token_dropout: float = 0.0
    """Dropout rate of the token embeddings."""
    scratch: bool = False
    """Start from random weights."""
    precision: str = "fp32"
    """fp32, bf16 or fp16."""
    seed: int = 0
    """Seed of batches, augmentations and random weights."""
    judge_every: Number = None
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
    """A Python file with your own objectives or adapters, which is run first."""
    json: bool = False
    """Print the curve as JSON."""

    def run(self) -> int:
        """Train, and say where the checkpoints are."""
        from xgap_analysis.datasets import load_dataset
        from xgap_analysis.training import Recipe, train

        whole = load_dataset(self.dataset)
        judged_on = None
        if self.judge_split is not None and self.judge_split in whole.splits:
            judged_on = whole.split(self.judge_split)
        recipe = Recipe(
            objective=self._terms(),
            temperature=self._temperature(),
            **{name: getattr(self, name) for name in Recipe.__dataclass_fields__ if name not in SPELT},
        )
        made = train(
            self.model,
            whole.split(self.split),
            self.out,
            recipe,
            judged_on=judged_on,
            judge_every=self.judge_every,
            checkpoints=self.checkpoints,
            save_every=self.save_every,
            device=self.device,
            workers=self.workers,
        )
        rows = made.curve.tail(len(made.curve) if self.json else 5).astype(object)
        print_rows(rows.where(rows.notna(), None).to_dict("records"), self.json)
        if judged_on is None:
            note(f"dataset {whole.name!r} has no split {self.judge_split!r}: nothing is evaluated, and best is last")
        note(f"the best is {made.best}, the last {made.last}")
        return 0

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


SPELT = ("objective", "temperature", "clip_gradient")  # written in another way here, or left as it is
