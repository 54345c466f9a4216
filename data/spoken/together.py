"""Tune image, text and speech towers together, pairwise (CLIP) and by Symile, and measure both: the model is `tiny-3`.

    OMP_NUM_THREADS=1 python data/spoken/together.py --processes 6     # three seeds of both
    python data/spoken/together.py --seeds 0 --steps 20 --out /a/file.parquet     # a trial

All start from `tiny-audio`: the towers of `tiny` and the audio tower that was trained beside them, frozen then. A step:
96 training concepts of `emoji-spoken`, of each a drawing by a training artist, its written name, and one recording by a
training voice. The two objectives see the same batches, and differ in nothing else. `together.parquet` has one row a
number, as `ablate` gives them, with the start as a setting of its own; its table in the data card is written anew.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from measure import CARD, GAP_METRICS, IMAGES, VOICES, gaps
from torch import Tensor, nn
from train import Recipe as OfSheets
from train import augmented

import xgap_analysis as xg
from xgap_analysis.core.writing import fill_places
from xgap_analysis.experiments.ablations import by_group
from xgap_analysis.experiments.contrasts import contrast_words
from xgap_analysis.experiments.tables import as_markdown
from xgap_analysis.metrics import bootstrap_interval
from xgap_analysis.models.adapters.audio import AudioTower
from xgap_analysis.models.tower import Model
from xgap_analysis.models.trainable import load_trainable
from xgap_analysis.training.objectives import clip_loss, symile_loss
from xgap_analysis.training.pairs import augmentation

HERE = Path(__file__).parent
BASE, START = "tiny", "tiny-audio"
MODALITIES = ("image", "text", "audio")
OBJECTIVES = ("pairwise", "symile")


@dataclass(frozen=True)
class Recipe:
    """How the three towers are tuned."""

    steps: int = 300
    concepts: int = 96  # a step
    learning_rate: float = 2e-4
    weight_decay: float = 0.1
    warmup: int = 20
    largest_gradient: float = 1.0
    temperature: float = 0.07  # at first; learned, one of each pair, or one of all three


class Together(nn.Module):
    """Three towers, and the logarithms of the scales of their objective."""

    def __init__(self, objective: str, recipe: Recipe) -> None:
        super().__init__()
        start = load_trainable(BASE, device="cpu")
        audio = xg.load_model(START, device="cpu").tower("audio")
        self._start, self.sizes, self.objective = start, audio.sizes, objective
        self.clip, self.audio = start.module, deepcopy(audio.encoder).requires_grad_(True)
        # The product of three unit rows is smaller than that of two by about the root of their dimensions.
        more = math.sqrt(self.sizes.dimensions) if objective == "symile" else 1.0
        first = math.log(more / recipe.temperature)
        self.most = math.log(100 * more)
        self.scales = nn.Parameter(torch.full((1 if objective == "symile" else 3,), first))

    def forward(self, pixels: Tensor, ids: Tensor, sheets: Tensor) -> list[Tensor]:
        """Unit features of each modality `[n, d]`."""
        sheets = (sheets - self.sizes.mean) / self.sizes.std
        made = self.clip.encode_image(pixels), self.clip.encode_text(ids), self.audio(sheets)[:, 0]
        return [F.normalize(features, dim=-1) for features in made]

    def loss(self, features: list[Tensor], generator: torch.Generator) -> Tensor:
        """The sum of the three pairwise contrasts, or Symile's of all three."""
        scales = self.scales.clamp(max=self.most).exp()
        if self.objective == "symile":
            return symile_loss(features, scales[0], generator=generator)
        pairs = list(combinations(features, 2))
        return torch.stack([clip_loss(x, y, scale) for (x, y), scale in zip(pairs, scales, strict=True)]).sum()

    def model(self) -> Model:
        """The three towers as they are now."""
        base = self._start.frozen()
        return Model("tiny-3", {**base.towers, "audio": AudioTower(deepcopy(self.audio), self.sizes)})


def tuned(objective: str, seed: int, recipe: Recipe) -> Model:
    """Train the three towers."""
    torch.manual_seed(seed)
    learner = Together(objective, recipe)
    start = learner._start
    data = xg.load_dataset("emoji-spoken").split("train")
    concept = data.labels["concept"]
    concepts = sorted(set(concept.values()))
    augment = augmentation(start.module, start.preprocess, "crop")
    audio = data.items_of("audio")
    floor, mean, frames = learner.sizes.floor, learner.sizes.mean, learner.sizes.frames
    sheets = [torch.from_numpy(np.array(audio[k]))[:frames] for k in range(len(audio))]
    sheets = torch.stack([F.pad(s, (0, 0, 0, frames - len(s)), value=floor) for s in sheets])
    rows: dict[str, dict[str, list[int]]] = {m: {c: [] for c in concepts} for m in MODALITIES}
    for modality in MODALITIES:
        for row, item in enumerate(data.items_of(modality).ids):
            rows[modality][concept[item]].append(row)
    decayed = [p for p in learner.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in learner.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)),
    )
    choose, shuffled = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    learner.train()
    for step in range(recipe.steps):
        chosen = choose.choice(concepts, recipe.concepts, replace=False)
        image, text, sound = ([int(choose.choice(rows[m][c])) for c in chosen] for m in MODALITIES)
        torch.manual_seed(1_000_003 * seed + step)  # the same augmentations, whatever the objective draws
        pixels = torch.stack([augment(data.images[k]) for k in image])
        heard = augmented(sheets[sound], OfSheets(), floor, mean)
        ids = start.tokenize([data.texts.captions[k] for k in text])
        loss = learner.loss(learner(pixels, ids, heard), shuffled)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), recipe.largest_gradient)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            print(f"{objective}, seed {seed}, step {step}: loss {loss.item():.3f}", flush=True)
    return learner.model()


def measured(model: Model, split: str) -> list[dict[str, Any]]:
    """Retrieval among names, drawings by one artist and recordings by held-out voices; on `test` the gaps as well."""
    data = xg.load_dataset("emoji-spoken").split(split)
    concept = data.labels["concept"]
    held = tuple(f"{voice}/" for voice in VOICES["held out"])
    chosen = {
        "A": data.items_of("audio").select(i for i in data.items_of("audio").ids if i.startswith(held)),
        "T": data.texts,
        "I": data.images.select(i for i in data.images.ids if i.startswith(f"{IMAGES}/")),
    }
    sets = {name: xg.encode(model, items, store=None, progress=False) for name, items in chosen.items()}
    drawn = {concept[i] for i in sets["I"].ids}
    rows = []
    for query, gallery in (("A", "T"), ("A", "I"), ("I", "T"), ("T", "I"), ("A", "A")):
        queries = sets[query]
        if gallery == "I":
            queries = queries.select(i for i in queries.ids if concept[i] in drawn)
        found = xg.retrieval(queries, sets[gallery], data)
        for metric in ("recall_at_1", "ap"):
            rows.append({"quantity": f"{query}-{gallery} {metric}, {split}", **summed(found[metric], concept)})
    for how, found in by_both(sets, concept).items():
        rows.append({"quantity": f"A+I-T by {how} recall_at_1, {split}", **summed(found, concept)})
    if split == "test":
        for pair in gaps(model, data).to_dict("records"):
            named = {f"{metric} {pair['pair']}": pair[metric] for metric in GAP_METRICS}
            rows += [{"quantity": name, "value": value, "n_queries": 0} for name, value in named.items()]
    return rows


def by_both(sets: dict[str, xg.Features], concept: Any) -> "dict[str, pd.Series[float]]":
    """Whether a recording and a drawing of a concept together have its name first, by two scores.

    The sum of the two cosines is what pairwise training makes large; the sum over coordinates of the product of all
    three, what Symile's does.
    """
    drawn = {concept[i]: k for k, i in enumerate(sets["I"].ids)}
    spoken = [k for k, i in enumerate(sets["A"].ids) if concept[i] in drawn]
    ids = [sets["A"].ids[k] for k in spoken]
    audio = sets["A"].vectors[spoken]
    images = sets["I"].vectors[[drawn[concept[i]] for i in ids]]
    names = [concept[i] for i in sets["T"].ids]
    found = {}
    for how, query in {"sum": audio + images, "product": audio * images}.items():
        first = (query @ sets["T"].vectors.T).argmax(1)
        found[how] = pd.Series([float(names[k] == concept[i]) for k, i in zip(first.tolist(), ids, strict=True)], ids)
    return found


def summed(values: "pd.Series[float]", concept: Any) -> dict[str, Any]:
    """A mean with its 95 % interval over concepts, and the means of concepts."""
    interval = bootstrap_interval(values, groups=[concept[i] for i in values.index])
    own = {"value": interval.mean, "low": interval.low, "high": interval.high, "n_queries": interval.n}
    return {**own, **by_group(values, concept)}


def one(objective: str, seed: int, recipe: Recipe) -> pd.DataFrame:
    """The numbers of one run; `"start"` is `tiny-audio` as it is."""
    torch.set_num_threads(1)
    model = xg.load_model(START, device="cpu") if objective == "start" else tuned(objective, seed, recipe)
    rows = [row for split in ("seen", "test") for row in measured(model, split)]
    step = 0 if objective == "start" else recipe.steps
    return pd.DataFrame(rows).assign(ablation="tiny-3", setting=objective, seed=seed, step=step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--out", type=Path, default=HERE / "together.parquet")
    given = parser.parse_args()
    recipe, began = Recipe(steps=given.steps), time.monotonic()
    runs = [(objective, seed) for seed in given.seeds for objective in OBJECTIVES]
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        waiting = [pool.submit(one, *run, recipe) for run in [("start", given.seeds[0]), *runs]]
        start, *made = [each.result() for each in waiting]
    made += [start.assign(seed=seed) for seed in given.seeds]  # a start is a start, whatever the seed
    table = pd.concat(made, ignore_index=True)
    xg.save_table(table, given.out)
    record = {
        "recipe": asdict(recipe),
        "seeds": given.seeds,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "processes": given.processes,
        "processors": os.cpu_count(),
        "torch": torch.__version__,
    }
    given.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    words = compared(table, given.seeds)
    print(words.to_string(), f"{record['minutes']} minutes", sep="\n")
    if given.out == HERE / "together.parquet":
        fill_places(CARD, {"TOGETHER": card_table(words, record)})


def compared(table: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    """What the card shows: each setting beside the pairwise contrast, a row for each quantity."""
    every = list(dict.fromkeys(table["quantity"]))
    shown = [name for name in every if "recall_at_1" in name or name.startswith("modality_gap")]
    over = "seeds" if len(seeds) > 1 else "queries"
    return contrast_words(table, "pairwise", shown, over=over).T.rename_axis("quantity")


def card_table(words: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """The place of the data card that follows from the table."""
    made = f"Seeds {record['seeds']}, {record['recipe']['steps']} steps, {record['minutes']} minutes in "
    return f"{made}{record['processes']} process{'es' * (record['processes'] > 1)}:\n\n{as_markdown(words)}"


if __name__ == "__main__":
    main()
