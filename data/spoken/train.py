"""Train the audio tower of `tiny-audio` beside the frozen towers of `tiny`, on the train split of `emoji-spoken`.

    python data/spoken/train.py                    # about ten minutes of one processor
    python data/spoken/train.py --only text --out /a/folder     # without audio-image pairs
    python data/spoken/train.py --steps 20 --out /a/folder      # a trial

A step: 160 training concepts, each spoken by one of the four training voices and augmented, against the vectors that
`tiny` gives their written names and one of their drawings each (InfoNCE with each, equal weights). No spoken name of a
held-out concept, no held-out voice, and no drawing of a held-out concept or artist takes part. What the tower is worth
is measured by `measure.py`.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root
from xgap_analysis.models.adapters.audio import SheetEncoder, Sizes, write

BASE = "tiny"
FRAMES, WIDTH, LAYERS, HEADS = 128, 128, 2, 4
DESCRIPTION = "tiny, with a tower of spoken names (log-mel sheets) trained for its frozen image and text towers"


@dataclass(frozen=True)
class Recipe:
    """How the tower is trained."""

    steps: int = 1500
    concepts: int = 160  # a step, each spoken once
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 100
    largest_gradient: float = 1.0
    text_weight: float = 1.0
    image_weight: float = 1.0
    tempo: float = 0.2  # in time: 1 - 0.2 to 1 + 0.2
    shift: int = 12  # frames of silence before the name, at most
    stretch: float = 0.1  # of the frequency axis, as vocal tracts of other lengths do
    gain: float = 1.0  # in natural logarithms of power
    tilt: float = 1.5  # between the lowest and the highest band
    noise: float = 0.3  # standard deviation
    ground: tuple[float, float] = (-8.0, -2.0)  # level of a noise floor
    masked_frames: int = 12
    masked_bands: int = 6
    seed: int = 0


def augmented(sheets: Tensor, recipe: Recipe, floor: float, mean: float) -> Tensor:
    """Sheets `[n, frames, bands]`, each at another tempo, place, pitch range, loudness and noise, and partly masked."""
    n, frames, bands = sheets.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *(shape or (1, 1))) * (high - low) + low

    time_axis, band_axis = torch.arange(frames).view(1, -1, 1), torch.arange(bands).view(1, 1, -1)
    at_time = (time_axis - uniform(0, recipe.shift)) * uniform(1 - recipe.tempo, 1 + recipe.tempo)
    at_band = band_axis * uniform(1 - recipe.stretch, 1 + recipe.stretch)
    outside = (at_time < 0) | (at_time > frames - 1)
    grid = torch.stack(
        [
            (at_band * 2 / (bands - 1) - 1).expand(n, frames, bands),
            (at_time * 2 / (frames - 1) - 1).expand(n, frames, bands),
        ],
        dim=-1,
    )
    made = F.grid_sample(sheets[:, None], grid, align_corners=True, padding_mode="border")[:, 0]
    made = made.masked_fill(outside, floor)
    made = made + uniform(-recipe.gain, recipe.gain) + uniform(-recipe.tilt, recipe.tilt) * (band_axis / bands - 0.5)
    made = made + torch.randn(made.shape) * uniform(0, recipe.noise)
    made = torch.logaddexp(made, uniform(*recipe.ground) + 0.5 * torch.randn(made.shape)).clamp(min=floor)
    for axis, most in ((time_axis, recipe.masked_frames), (band_axis, recipe.masked_bands)):
        start, length = uniform(0, axis.numel()), uniform(0, most)
        made = made.masked_fill((axis >= start) & (axis < start + length), mean)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("text", "image"), help="the one modality to train against")
    parser.add_argument("--out", type=Path, default=data_root() / "models" / "tiny-audio")
    given = parser.parse_args()
    weights = {f"{other}_weight": 0.0 for other in ("text", "image") if given.only and other != given.only}
    recipe = Recipe(steps=given.steps, seed=given.seed, **weights)
    torch.manual_seed(recipe.seed)
    began = time.process_time()

    base = xg.load_model(BASE, device="cpu")
    data = xg.load_dataset("emoji-spoken").split("train")
    concepts = sorted(set(data.labels["concept"].values()))
    place = {concept: k for k, concept in enumerate(concepts)}
    texts, images = (xg.encode(base, items) for items in (data.texts, data.images))
    names = torch.zeros(len(concepts), texts.dim)
    names[[place[data.labels["concept"][i]] for i in texts.ids]] = torch.as_tensor(np.array(texts))
    drawings = torch.as_tensor(np.array(images))
    drawn: list[list[int]] = [[] for _ in concepts]
    for row, item in enumerate(images.ids):
        drawn[place[data.labels["concept"][item]]].append(row)
    audio = data.items_of("audio")
    sounds = [torch.from_numpy(np.array(audio[k])) for k in range(len(audio))]
    together = torch.cat(sounds)
    floor, mean, std = -8.0, round(float(together.mean()), 3), round(float(together.std()), 3)
    sizes = Sizes(together.shape[1], FRAMES, WIDTH, LAYERS, HEADS, texts.dim, floor, mean, std)
    sheets = torch.stack([F.pad(s[:FRAMES], (0, 0, 0, FRAMES - len(s[:FRAMES])), value=floor) for s in sounds])
    spoken: list[list[int]] = [[] for _ in concepts]
    for row, item in enumerate(audio.ids):
        spoken[place[data.labels["concept"][item]]].append(row)

    encoder = SheetEncoder(sizes)
    scales = nn.Parameter(torch.full((2,), math.log(1 / 0.07)))
    decayed = [p for p in encoder.parameters() if p.ndim > 1]
    others = [p for p in encoder.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": [*others, scales], "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)),
    )
    choose = np.random.default_rng(recipe.seed)
    target = torch.arange(recipe.concepts)
    encoder.train()
    for step in range(recipe.steps):
        chosen = choose.choice(len(concepts), recipe.concepts, replace=False)
        batch = augmented(sheets[[choose.choice(spoken[c]) for c in chosen]], recipe, floor, mean)
        features = F.normalize(encoder((batch - mean) / std)[:, 0], dim=1)
        loss = torch.zeros(())
        sides = (
            (recipe.text_weight, names[chosen]),
            (recipe.image_weight, drawings[[choose.choice(drawn[c]) for c in chosen]]),
        )
        for scale, (weight, vectors) in zip(scales, sides, strict=True):
            logits = scale.clamp(max=math.log(100)).exp() * features @ vectors.T
            loss = loss + weight * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), recipe.largest_gradient)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            print(f"step {step}: loss {loss.item():.3f}, {time.process_time() - began:.0f} s", flush=True)

    write(given.out, encoder, sizes, base, {"description": DESCRIPTION})
    record = {
        "recipe": asdict(recipe),
        "base": {"name": base.name, "weights": base.weights_digest},
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "last_loss": round(loss.item(), 4),
        "processor_seconds": round(time.process_time() - began),
        "torch": torch.__version__,
    }
    (given.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
