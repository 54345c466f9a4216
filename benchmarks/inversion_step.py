"""A step of OTI and of OVI, against a plain loop over the full sequence with torch's AdamW."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import in_turns, matrix_rate, operations
from xgap_analysis.models import from_open_clip
from xgap_analysis.views.inversion.loop import InversionLoop, starts, unit_features
from xgap_analysis.views.inversion.textual import make_prompt
from xgap_analysis.views.inversion.textual import pseudo_forward as textual_forward
from xgap_analysis.views.inversion.visual import pseudo_forward as visual_forward

LR, DECAY = 2e-2, 0.01
GOALS = {"OTI": 15.0, "OVI": 1.25}


def word_ids(captions: list[str]) -> Tensor:
    """CLIP's ids of a short caption, near enough: a word is one token, and the end token has the highest id."""
    rows = torch.zeros(len(captions), 77, dtype=torch.long)
    for row, caption in zip(rows, captions, strict=True):
        own = [49406, *(sum(map(ord, word)) % 40_000 for word in caption.split()), 49407][:77]
        row[: len(own)] = torch.tensor(own)
        row[-1] = 49407 if len(caption.split()) > 75 else row[-1]
    return rows


def plain_text(bare: Any, ids: Tensor, start: int) -> Callable[[Tensor], Tensor]:
    """The whole sequence through open_clip's modules, as a first implementation would write it."""
    table = bare.token_embedding(ids)

    def features(pseudo: Tensor) -> Tensor:
        n = len(pseudo)
        parts = [table[:start].expand(n, -1, -1), pseudo, table[start + 1 :].expand(n, -1, -1)]
        x = torch.cat(parts, dim=1) + bare.positional_embedding
        x = bare.ln_final(bare.transformer(x, attn_mask=bare.attn_mask))
        return x[:, int(ids.argmax())] @ bare.text_projection

    return features


def plain_image(bare: Any, patches: int) -> Callable[[Tensor], Tensor]:
    """The same for one pseudo-patch in the place of all patches."""
    visual = bare.visual

    def features(pseudo: Tensor) -> Tensor:
        n = len(pseudo)
        x = torch.cat([visual.class_embedding.expand(n, 1, -1), pseudo.expand(-1, patches, -1)], dim=1)
        x = visual.transformer(visual.ln_pre(x + visual.positional_embedding))
        return visual.ln_post(x[:, 0]) @ visual.proj

    return features


def plain_loop(forward: Callable[[Tensor], Tensor], start: Tensor, targets: Tensor, steps: int) -> list[Tensor]:
    """AdamW on the cosine loss; the losses `[n]` before each update."""
    tokens = start.clone().requires_grad_()
    optimiser, losses = torch.optim.AdamW([tokens], lr=LR, weight_decay=DECAY), []
    for _ in range(steps):
        loss = 1 - F.cosine_similarity(forward(tokens), targets)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        losses.append(loss.detach())
    return losses


class Enough(Exception):
    """The steps to be timed are over; the features after the last one are no part of a step."""


def _end_at(steps: int) -> Callable[[int], None]:
    def look(done: int) -> None:
        if done == steps:
            raise Enough

    return look


def loop_of(ours: Any, start: Tensor, targets: Tensor, steps: int, precision: str = "fp32") -> InversionLoop:
    """Our loop, with what it needs for batches of this size."""
    n, tokens, width = start.shape
    options = {"steps": steps, "lr": LR, "weight_decay": DECAY, "precision": precision}
    return InversionLoop(ours, (n, tokens, width), targets.shape[1], start.device, **options)


def ways(bare: Any, model: Any) -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """For OTI and OVI with one pseudo-token: tokens to features through the full sequence, and as we do it."""
    prompt = make_prompt(model.tokenize, "a photo of {}", 1)
    return {
        "OTI": (plain_text(bare, prompt.ids.to(model.device), prompt.start), textual_forward(model.text, prompt)),
        "OVI": (plain_image(bare, model.image.length), visual_forward(model.image, 1)),
    }


def measure(architecture: str, batches: list[int], device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """A row for OTI and OVI at each batch size."""
    torch.manual_seed(0)
    bare = open_clip.create_model(architecture).to(device)
    model = from_open_clip(bare, word_ids, torch.ones, name=architecture)
    both = ways(bare, model)
    for (name, (plain, ours)), batch in ((way, b) for way in both.items() for b in batches):
        width = model.tower("text" if name == "OTI" else "image").width
        start = starts([str(i) for i in range(batch)], 1, width, seed=0, std=0.02).to(device)
        generator = torch.Generator().manual_seed(1)
        # Targets that the tower can reach, so that the loss curves go somewhere.
        targets = unit_features(ours, torch.randn(batch, 1, width, generator=generator).to(device))
        steps = 8 if name == "OTI" and not quick else 1

        loop = loop_of(ours, start, targets, steps)

        def run_ours(
            steps: int = steps, loop: InversionLoop = loop, start: Tensor = start, targets: Tensor = targets
        ) -> None:
            with contextlib.suppress(Enough):
                loop.run(start, targets, on_step=_end_at(steps))

        def run_plain(plain: Any = plain, start: Tensor = start, targets: Tensor = targets) -> Any:
            return plain_loop(plain, start, targets, 1)

        pair = in_turns(run_plain, run_ours, 1 if quick else 3, scale=1 / steps)
        flops = operations(loop_of(ours, start, targets, 1).probe)  # a captured step counts as none
        yield {
            "figure": f"{name} step",
            "model": architecture,
            "batch": batch,
            "baseline": "plain loop, full length",
            "baseline_seconds": pair.baseline / steps,
            "seconds": pair.ours / steps,
            "ratio": pair.ratio,
            "cpu_ratio": pair.cpu_ratio,
            "goal": GOALS[name],
            "feature_difference": float((unit_features(plain, start) - unit_features(ours, start)).abs().max()),
            "flops": operations(run_plain) / flops if flops else None,
            "share_of_matrix_rate": flops / (pair.ours / steps) / matrix_rate(device, torch.float32) if flops else None,
        }
    if not quick:
        yield from _curves(both, model, device)
        yield from _precision(both["OVI"][1], model.image.width, batches[0], device)


def _curves(both: dict[str, Any], model: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    """The largest difference of the two loss curves over 150 steps of OTI; one item is enough."""
    plain, ours = both["OTI"]
    start = starts(["a"], 1, model.text.width, seed=0, std=0.02).to(device)
    generator = torch.Generator().manual_seed(1)
    targets = unit_features(ours, torch.randn(1, 1, model.text.width, generator=generator).to(device))
    found = loop_of(ours, start, targets, 150).run(start, targets).loss
    expected = torch.stack(plain_loop(plain, start, targets, 150))
    worst = float((found - expected).abs().max())
    yield {"figure": "OTI loss curve, 150 steps", "model": model.name, "batch": 1, "curve_difference": worst}


def _precision(ours: Any, width: int, batch: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """bf16 autocast in the loop: its speed against float32, and what it does to the features after 4 steps."""
    start = starts([str(i) for i in range(batch)], 1, width, seed=0, std=0.02).to(device)
    generator = torch.Generator().manual_seed(1)
    targets = unit_features(ours, torch.randn(batch, 1, width, generator=generator).to(device))

    def run(precision: str, steps: int = 1) -> Any:
        return loop_of(ours, start, targets, steps, precision).run(start, targets)

    features = [run(precision, 4).features for precision in ("fp32", "bf16")]
    pair = in_turns(lambda: run("fp32"), lambda: run("bf16"), 1)
    yield {
        "figure": "OVI step, bf16 autocast",
        "model": "ViT-B-32",
        "batch": batch,
        "baseline": "the same in float32",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "cosine_of_features_after_4_steps": float((features[0] * features[1]).sum(dim=1).min()),
    }
