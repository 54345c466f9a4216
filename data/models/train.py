"""Train the embedded models on the train split of `emoji` and a corpus of open icon sets.

    pip install resvg-py==0.5.0   # and npm, for the icons
    python data/models/train.py tiny          # learned temperature: ordinary CLIP
    python data/models/train.py tiny-intra    # the same data and steps, plus an image-image SimCLR term
    python data/models/train.py tiny-nogap    # the last 35 % of tiny's steps at a fixed, high temperature
    python data/models/train.py tiny-image    # the SimCLR term alone: a control that has never seen a text
    python data/models/train.py tiny-untrained

Each writes an open_clip local directory beside this script. Held-out concepts never appear: their pictures and captions
are in no batch, and an icon whose name contains the words of a held-out concept's name is left out of the corpus.
"""

import argparse
import json
import math
import random
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import icons
import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from xgap_analysis.training.objectives import clip_loss, simclr_loss

HERE = Path(__file__).parent
EMOJI = HERE.parent / "emoji"
TRAIN_ARTISTS = ("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "twemoji", "fxemoji")
TEMPLATES = ("a photo of {}", "a picture of {}", "an emoji of {}", "a drawing of {}", "an icon of {}")
CONTEXT, VOCABULARY = 16, 3000
MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 128,
        "heads": 4,
        "layers": 3,
        "hf_tokenizer_name": "tokenizer",
    },
}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; everything that differs between the siblings is here."""

    steps: int = 1600
    pairs: int = 160  # distinct captions a step; each picture is seen in two augmentations
    emoji_share: float = 0.8
    learning_rate: float = 2e-3  # AdamW: embeddings, norms, biases, heads
    matrix_rate: float = 0.02  # Muon: the weight matrices of the blocks
    weight_decay: float = 0.05
    warmup: int = 50
    patch_dropout: float = 0.25  # for all but the last tenth of the steps
    inter_weight: float = 1.0  # of the CLIP loss; 0 leaves the text tower out
    intra_weight: float = 0.0
    fixed_temperature: float = 0.0  # 0: learned
    branch_at: float = 0.65  # where tiny-nogap leaves tiny
    seed: int = 0


RECIPES = {
    "tiny": Recipe(),
    "tiny-intra": Recipe(intra_weight=1.0),
    "tiny-nogap": Recipe(fixed_temperature=0.5),
    "tiny-image": Recipe(inter_weight=0.0, intra_weight=1.0, steps=800),
}


def words(text: str) -> frozenset[str]:
    """The words of a caption, without plural endings."""
    return frozenset(re.sub(r"s$", "", w) for w in re.findall(r"[a-z0-9]+", text.lower()))


class Corpus:
    """Groups of pictures that share a caption source: one per emoji concept of the train split, one per icon name."""

    def __init__(self, cache: Path) -> None:
        concepts = json.loads((EMOJI / "concepts.json").read_text())
        drawn = json.loads((EMOJI / "pictures.json").read_text())
        train = {c: facts for c, facts in concepts.items() if facts["split"] == "train"}
        held_out = [f for f in concepts.values() if f["split"] != "train"]
        pictures: list[np.ndarray] = []
        by_concept: dict[str, list[int]] = {c: [] for c in train}
        for artist in TRAIN_ARTISTS:
            sheet = np.asarray(Image.open(EMOJI / "sprites" / f"{artist}.webp").convert("RGBA")).astype(np.uint16)
            sheet[..., :3] = sheet[..., :3] * sheet[..., 3:] // 255
            columns = sheet.shape[1] // icons.SIZE
            for i, concept in enumerate(drawn[artist]):
                if concept in train:
                    top, left = (i // columns) * icons.SIZE, (i % columns) * icons.SIZE
                    by_concept[concept].append(len(pictures))
                    pictures.append(sheet[top : top + icons.SIZE, left : left + icons.SIZE].astype(np.uint8))
        self.emoji = [(train[c], rows) for c, rows in by_concept.items() if rows]
        held_out_names = {words(n) for f in held_out for n in (f["name"], *f["other_names"]) if len(n) > 2}
        drawings, captions, coloured = icons.render(cache)
        by_caption: dict[str, list[int]] = {}
        self.left_out = 0
        has_colour = [True] * len(pictures)
        for picture, caption, colour in zip(drawings, captions, coloured, strict=True):
            in_caption = words(caption)
            if any(name <= in_caption for name in held_out_names):
                self.left_out += 1
                continue
            by_caption.setdefault(caption, []).append(len(pictures))
            pictures.append(picture)
            has_colour.append(bool(colour))
        self.icons = list(by_caption.items())
        self.pictures = torch.from_numpy(np.stack(pictures))
        self.coloured = torch.tensor(has_colour)

    def emoji_caption(self, facts: dict, draw: random.Random) -> str:
        """One caption of a concept, drawn at random: a name, keywords, both, or the subgroup."""
        kind = draw.random()
        if kind < 0.12 and facts["other_names"]:
            return draw.choice(facts["other_names"])
        if kind < 0.37 and facts["keywords"]:
            return " ".join(draw.sample(facts["keywords"], min(draw.randint(1, 4), len(facts["keywords"]))))
        if kind < 0.50 and facts["keywords"]:
            return facts["name"] + " " + " ".join(draw.sample(facts["keywords"], min(2, len(facts["keywords"]))))
        if kind < 0.55:
            return facts["subgroup"].replace("-", " ")
        return facts["name"]

    def batch(self, recipe: Recipe, draw: random.Random) -> tuple[Tensor, list[str], list[str]]:
        """Rows of `pairs` pictures with distinct names, and two captions for each."""
        n_emoji = round(recipe.pairs * recipe.emoji_share)
        rows, first, second = [], [], []
        for facts, own in draw.sample(self.emoji, n_emoji):
            rows.append(draw.choice(own))
            first.append(self.emoji_caption(facts, draw))
            second.append(self.emoji_caption(facts, draw))
        for caption, own in draw.sample(self.icons, recipe.pairs - n_emoji):
            rows.append(draw.choice(own))
            first.append(caption)
            second.append(caption)
        in_template = [
            [draw.choice(TEMPLATES).format(c) if draw.random() < 0.75 else c for c in s] for s in (first, second)
        ]
        return torch.tensor(rows), in_template[0], in_template[1]

    def captions(self) -> list[str]:
        """Every training caption, for the tokenizer."""
        named = [f[key] for f, _ in self.emoji for key in ("name", "subgroup")]
        listed = [x for f, _ in self.emoji for key in ("other_names", "keywords") for x in f[key]]
        return [*TEMPLATES, *named, *listed, *(c for c, _ in self.icons)]


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024), for the weight matrices of the blocks.

    It needs about half of AdamW's steps here. PyTorch's own iterates in bfloat16, which is three times slower than the
    whole training step on a CPU without bfloat16 arithmetic; this one stays in float32.
    """

    def __init__(self, params: list[Tensor], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                tall = update.shape[0] > update.shape[1]
                x = update.T if tall else update
                x = x / (x.norm() + 1e-7)
                for _ in range(5):  # the quintic Newton-Schulz iteration, with its published coefficients
                    square = x @ x.T
                    x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
                x = x.T if tall else x
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def augment(pictures: Tensor, coloured: Tensor, rng: torch.Generator) -> Tensor:
    """Premultiplied RGBA uint8 `[n, 64, 64, 4]` -> RGB float `[n, 3, 64, 64]`: moved, recoloured, on a background."""
    n = len(pictures)
    x = pictures.permute(0, 3, 1, 2).float() / 255

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=rng)

    ink = torch.where((uniform(0, 1) < 0.5)[:, None], torch.zeros(n, 3), uniform(0, 1, 3))
    mono = ~coloured
    x[mono, :3] = ink[mono][:, :, None, None] * x[mono, 3:]
    angle, zoom, aspect = uniform(-0.25, 0.25), uniform(0.8, 1.35), uniform(0.87, 1.15)
    flip = torch.where(uniform(0, 1) < 0.3, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    row0 = torch.stack([cos * aspect * flip, -sin, uniform(-0.15, 0.15)], 1)
    row1 = torch.stack([sin * flip, cos / aspect, uniform(-0.15, 0.15)], 1)
    grid = F.affine_grid(torch.stack([row0, row1], 1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    rgb, alpha = x[:, :3], x[:, 3:]
    grey = rgb.mean(1, keepdim=True)
    saturation = torch.where(uniform(0, 1) < 0.15, torch.zeros(n), uniform(0.5, 1.5))[:, None, None, None]
    rgb = grey + (rgb - grey) * saturation
    tint = uniform(0.8, 1.2, 3)[:, :, None, None]
    rgb = (rgb * tint).clamp(0, 1)
    plain = torch.where((uniform(0, 1) < 0.5)[:, None], torch.ones(n, 3), uniform(0, 1, 3))[:, :, None, None]
    mixed = (rgb + (1 - alpha) * plain).clamp(0, 1)
    return (mixed - 0.5) / 0.5


def make_tokenizer(captions: list[str]) -> Tokenizer:
    """A lower-case byte-pair tokenizer with word endings, `<start>` and `<end>`; `<end>` has the highest id.

    The captions have curly quotes, which open_clip straightens before it tokenizes; so straight ones are curled here.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()),
            *(
                normalizers.Replace("'", "’"),
                normalizers.Replace(Regex(r'(?<!\S)"'), "“"),
                normalizers.Replace('"', "”"),
            ),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=["<pad>", "<unk>"],
        end_of_word_suffix="</w>",
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.add_special_tokens(["<start>", "<end>"])
    ids = {name: tokenizer.token_to_id(name) for name in ("<start>", "<end>")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=list(ids.items())
    )
    return tokenizer


def tokenise(tokenizer: Tokenizer, captions: list[str]) -> Tensor:
    """Token ids `[n, CONTEXT]`, cut and padded as open_clip's wrapper does it."""
    encoded = tokenizer.encode_batch(captions)
    return torch.tensor([e.ids + [0] * (CONTEXT - len(e.ids)) for e in encoded])


def save(model: CLIP, tokenizer: Tokenizer, target: Path, image_only: bool = False) -> None:
    """Write an open_clip local directory (weights in half precision) with its tokenizer."""
    target.mkdir(exist_ok=True)
    config = {"model_cfg": MODEL, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}}
    if image_only:  # read by the toolkit: questions to the text tower are refused
        config["xgap_analysis"] = {"image_only": True}
    (target / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    half = {name: w.half().contiguous() if w.is_floating_point() else w for name, w in model.state_dict().items()}
    save_file(half, str(target / "open_clip_model.safetensors"))
    tokenizer.save(str(target / "tokenizer.json"), pretty=False)
    wrapper = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "bos_token": "<start>",
        "eos_token": "<end>",
        "model_max_length": CONTEXT,
    }
    (target / "tokenizer_config.json").write_text(json.dumps(wrapper, indent=2) + "\n")


def new_model(seed: int, patch_dropout: float = 0.0) -> CLIP:
    """The architecture with fresh weights."""
    torch.manual_seed(seed)
    vision = {**MODEL["vision_cfg"], "patch_dropout": patch_dropout}
    return CLIP(embed_dim=MODEL["embed_dim"], vision_cfg=vision, text_cfg=MODEL["text_cfg"])


def train(name: str, recipe: Recipe, cache: Path, log_every: int = 25) -> None:
    corpus = Corpus(cache)
    print(
        f"{len(corpus.emoji)} concepts, {len(corpus.icons)} icon names, {len(corpus.pictures)} pictures, "
        f"{corpus.left_out} icons left out for their names",
        flush=True,
    )
    tokenizer = make_tokenizer(corpus.captions())
    tokenizer.enable_truncation(CONTEXT)
    model = new_model(recipe.seed, recipe.patch_dropout)
    scale_is_learned = not recipe.fixed_temperature
    trained = model if recipe.inter_weight else model.visual
    matrices = [p for n, p in trained.named_parameters() if p.ndim == 2 and "resblocks" in n]
    in_blocks = {id(p) for p in matrices}
    others = [p for p in trained.parameters() if id(p) not in in_blocks]
    optimisers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay),
    ]
    peaks = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    branch = cache / f"tiny-branch-{recipe.steps}-{recipe.seed}.pt"
    branch_step = int(recipe.branch_at * recipe.steps)
    start = 0
    if not scale_is_learned:
        saved = torch.load(branch, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        start = branch_step
    curve, began = [], time.time()
    running: list[float] = []
    for step in range(start, recipe.steps):
        if name == "tiny" and step == branch_step:
            states = [optimiser.state_dict() for optimiser in optimisers]
            torch.save({"model": model.state_dict(), "optimisers": states}, branch)
        rate = min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = rate * peak
        model.visual.patch_dropout.prob = recipe.patch_dropout if step < 0.9 * recipe.steps else 0.0
        draw = random.Random(f"{recipe.seed} {step}")  # the same batches for every sibling
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        torch.manual_seed(step)  # the patches left out
        rows, first, second = corpus.batch(recipe, draw)
        both = torch.cat([rows, rows])
        pixels = augment(corpus.pictures[both], corpus.coloured[both], rng)
        image_a, image_b = model.encode_image(pixels, normalize=True).chunk(2)
        scale = model.logit_scale.exp() if scale_is_learned else torch.tensor(1 / recipe.fixed_temperature)
        inter = intra = torch.zeros(())
        gap = math.nan
        if recipe.inter_weight:
            text_a, text_b = model.encode_text(tokenise(tokenizer, first + second), normalize=True).chunk(2)
            inter = (clip_loss(image_a, text_a, scale) + clip_loss(image_b, text_b, scale)) / 2
            gap = (torch.cat([image_a, image_b]).mean(0) - torch.cat([text_a, text_b]).mean(0)).norm().item()
        if recipe.intra_weight:
            intra = simclr_loss(image_a, image_b)
        loss = recipe.inter_weight * inter + recipe.intra_weight * intra
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        running.append((inter if recipe.inter_weight else intra).item())
        if (step + 1) % log_every == 0 or step + 1 == recipe.steps:
            row = {
                "step": step + 1,
                "clip_loss" if recipe.inter_weight else "simclr_loss": sum(running) / len(running),
                "scale": float(scale.detach()),
                "gap": gap,
                "seconds": time.time() - began,
            }
            curve.append({k: round(v, 4) for k, v in row.items()})
            running = []
            print(name, curve[-1], flush=True)
    if not scale_is_learned:
        with torch.no_grad():
            model.logit_scale.fill_(math.log(1 / recipe.fixed_temperature))
    model.eval()
    save(model, tokenizer, HERE / name, image_only=not recipe.inter_weight)
    card = {
        "recipe": asdict(recipe),
        "curve": curve,
        "pictures": len(corpus.pictures),
        "icons_left_out": corpus.left_out,
    }
    (HERE / name / "training.json").write_text(json.dumps(card, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*RECIPES, "tiny-untrained"])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where the icons and checkpoints are kept")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if args.name == "tiny-untrained":
        tokenizer = make_tokenizer(Corpus(args.cache).captions())
        save(new_model(Recipe().seed), tokenizer, HERE / args.name)
    else:
        train(args.name, RECIPES[args.name], args.cache)


if __name__ == "__main__":
    main()
