"""What fewer steps cost: steps, seconds, cosine reached and retrieval, of OTI and OVI on an embedded model.

    python -m benchmarks.fewer_steps      # about ten minutes on one core; writes data/inversion/fewer_steps.csv

The loss to reach is that of the paper's AdamW: 150 steps of OTI, 1,000 of OVI. A step is one pass forward and back of
every item, whichever the way. Only L-BFGS is an option of inversions (`invert(optimiser="l-bfgs")`); a rate that falls
by a cosine and Anderson's acceleration are here alone, to be compared.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

import xgap_analysis as xg
from benchmarks.timing import seconds
from xgap_analysis.metrics import paired_test
from xgap_analysis.views.inversion.amortised import AmortisedInverter
from xgap_analysis.views.inversion.invert import STEPS, pseudo_forward
from xgap_analysis.views.inversion.loop import starts

OUT = Path(__file__).parent.parent / "data" / "inversion" / "fewer_steps.csv"
CONCEPTS = {"OTI": 60, "OVI": 24}  # OVI takes more steps, and each of them longer
FEW = 100
SETTLED = 1e-4
RATES = (0.05, 0.1)  # of AdamW with a rate that falls
WINDOW, MIXING = 8, 1.0  # of Anderson's acceleration
Pass = Callable[[Tensor], tuple[Tensor, Tensor]]


def measure(
    device: torch.device, quick: bool, name: str = "tiny", concepts: Mapping[str, int] = CONCEPTS
) -> Iterator[dict[str, Any]]:
    """A row a way, of OTI and of OVI, by the number of concepts of each."""
    model, data = xg.load_model(name, device=str(device)), xg.load_dataset("emoji").split("test")
    for view, n in concepts.items():
        part = data.limit(6 if quick else n)
        items = part.images if view == "OTI" else part.texts
        native = xg.encode(model, items, store=None, progress=False)
        label = part.labels_of()
        first = {label[item]: item for item in reversed(native.ids)}
        queries = native.select([item for item in native.ids if first[label[item]] == item])  # one of each concept
        yield from _Ways(model, part, queries, native, quick).rows()


class _Ways:
    """The ways of inverting these features, each as a row beside the paper's; the gallery is native."""

    def __init__(
        self, model: xg.Model, part: xg.Dataset, native: xg.Features, gallery: xg.Features, quick: bool
    ) -> None:
        self._model, self._part, self._native, self._gallery, self._quick = model, part, native, gallery, quick
        self._space = {"image": "text", "text": "image"}[native.space]
        self._whole, self._few = (6, 3) if quick else (STEPS[self._space], FEW)
        self._paper: Any = None  # AP of each query after the paper's steps

    def rows(self) -> Iterator[dict[str, Any]]:
        yield self._row("native, no inversion", 0, 0.0, self._native)
        usual, took = self._invert(self._whole, snapshots=[self._few])
        self._paper = self._ap(usual.features)
        yield self._row("AdamW (the paper's)", self._whole, took, usual.features)
        few = usual.snapshots[self._few]
        yield self._row("AdamW", self._few, took * self._few / self._whole, few)
        for rate in RATES:
            yield self._own(f"AdamW, rate {rate} falling by a cosine", lambda *of, rate=rate: falling(*of, rate))
        yield self._own("Anderson's acceleration", anderson)
        goal = float((usual.features.vectors * self._native.vectors).sum(dim=1).mean()) - SETTLED
        for start in ("normal", "closed-form") if self._space == "text" else ("normal",):
            yield from self._lbfgs(start, goal)
        if self._space == "text":
            yield from self._others()

    def _lbfgs(self, start: str, goal: float) -> Iterator[dict[str, Any]]:
        """A row after few steps, and one after as many (of every fifth) as reach the cosine of the paper's steps."""
        way = "L-BFGS" + (", closed-form start" if start != "normal" else "")
        most = 2 * self._few
        looks = [self._few, *range(5, most + 1, 5)]
        found, took = self._invert(most, snapshots=looks, optimiser="l-bfgs", start=start)
        yield self._row(way, self._few, took * self._few / most, found.snapshots[self._few])
        for steps, features in found.snapshots.items():
            if float((features.vectors * self._native.vectors).sum(dim=1).mean()) >= goal:
                yield self._row(f"{way}, to the cosine of the paper's", steps, took * steps / most, features)
                return
        yield self._row(f"{way}, short of the cosine of the paper's", most, took, found.features)

    def _others(self) -> Iterator[dict[str, Any]]:
        found, took = self._invert(self._whole, start="closed-form")
        yield self._row("AdamW, closed-form start", self._whole, took, found.features)
        found, took = self._invert(self._whole, stop="plateau")
        moved = found.loss.diff(dim=0).abs().sum(dim=1) > 0
        yield self._row("AdamW, plateau", int(moved.nonzero()[-1]) + 1, took, found.features)
        rest = xg.load_dataset("emoji").split("train").limit(6 if self._quick else 200).images
        seen = xg.encode(self._model, rest, store=None, progress=False)
        seen = seen.select(sorted(set(seen.ids) - set(self._native.ids)))
        made: dict[str, Any] = {}
        fitting = seconds(
            lambda: made.update(to=AmortisedInverter.fit(self._model, seen, steps=5 if self._quick else 300))
        )[0]
        took = seconds(lambda: made.update(features=made["to"].apply(self._model, self._native)))[0]
        yield {**self._row("amortised (fitted on train)", 0, took, made["features"]), "fit_in_seconds": fitting}

    def _invert(self, steps: int, **options: Any) -> tuple[Any, float]:
        kept: dict[str, Any] = {}

        def go() -> None:
            kept["made"] = xg.invert(self._model, self._native, steps=steps, store=None, progress=False, **options)

        took = seconds(go)[0]
        return kept["made"], took

    def _own(self, way: str, run: Callable[[Pass, Tensor, int], Tensor]) -> dict[str, Any]:
        """A way of this module: from one pass, the starts and the number of steps to tokens."""
        tokens = int(self._model.settings.get("ovi_tokens", 1)) if self._space == "image" else 1
        forward = pseudo_forward(self._model, self._space, "a photo of {}", tokens)
        targets = self._native.vectors.to(self._model.device)
        width = self._model.invertible(self._space).width
        start = starts(self._native.ids, tokens, width, seed=42, std=0.02).to(self._model.device)

        def once(x: Tensor) -> tuple[Tensor, Tensor]:
            x = x.detach().requires_grad_()
            loss = 1 - F.cosine_similarity(forward(x), targets)
            return loss.detach(), torch.autograd.grad(loss.sum(), x)[0]

        kept: dict[str, Tensor] = {}
        took = seconds(lambda: kept.update(tokens=run(once, start, self._few)))[0]
        vectors = xg.encode_pseudo_tokens(self._model, kept["tokens"], self._space)
        of = self._native
        features = xg.Features(vectors.cpu(), of.ids, self._space, of.origin, {}, of.items)
        return self._row(way, self._few, took, features)

    def _ap(self, features: xg.Features) -> Any:
        return xg.retrieval(features, self._gallery, self._part)["ap"]

    def _row(self, way: str, steps: int, took: float, features: xg.Features) -> dict[str, Any]:
        ap = self._ap(features)
        name = {"text": "OTI", "image": "OVI"}[self._space]
        row = {
            "figure": "fewer steps",
            "model": f"{name}, {self._model.name}, {len(features)} items",
            "way": way,
            "steps": steps,
            "seconds": took,
            "cosine": float((features.vectors.cpu() * self._native.vectors.cpu()).sum(dim=1).mean()),
            "ap": float(ap.mean()),
        }
        if self._paper is not None:
            label = self._part.labels_of()
            test = paired_test(
                self._paper.to_numpy(), ap.to_numpy(), groups=[label[item] for item in self._native.ids], seed=0
            )
            row |= {"ap_change": float(ap.mean() - self._paper.mean()), "low": test.low, "high": test.high}
        return row


def falling(once: Pass, x: Tensor, steps: int, rate: float) -> Tensor:
    """AdamW whose rate falls to zero by half a cosine."""
    x = x.clone().requires_grad_()
    optimiser = torch.optim.AdamW([x], lr=rate, weight_decay=0.01)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        x.grad = once(x)[1]
        optimiser.step()
    return x.detach()


def anderson(once: Pass, x: Tensor, steps: int) -> Tensor:
    """Anderson's acceleration (1965) of gradient descent, a window for each row; the best point of each row."""
    shape, at = x.shape, x.flatten(1)
    points, residuals, mixing = list[Tensor](), list[Tensor](), None
    best, lowest = at.clone(), torch.full((len(x),), torch.inf, device=x.device)
    for _ in range(steps):
        loss, gradient = once(at.view(shape))
        residual = -gradient.flatten(1)
        mixing = MIXING / residual.norm(dim=1, keepdim=True) if mixing is None else mixing
        better = loss < lowest
        best, lowest = torch.where(better[:, None], at, best), torch.where(better, loss, lowest)
        points, residuals = [*points, at][-WINDOW - 1 :], [*residuals, mixing * residual][-WINDOW - 1 :]
        following = at + residuals[-1]
        if len(points) > 1:
            moves = torch.stack(points, dim=2).diff(dim=2)
            changes = torch.stack(residuals, dim=2).diff(dim=2)  # [n, width, window]
            gram = changes.mT @ changes
            ridge = 1e-8 * gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] + 1e-30
            gram = gram + ridge * torch.eye(gram.shape[1], device=x.device)
            weights = torch.linalg.solve(gram, changes.mT @ residuals[-1][..., None])
            following = following - ((moves + changes) @ weights)[..., 0]
        at = following
    return best.view(shape)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny", "tiny-intra"])
    parser.add_argument("--views", nargs="+", choices=CONCEPTS, default=list(CONCEPTS))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rows = []
    for name in options.models:
        concepts = {view: CONCEPTS[view] for view in options.views}
        for row in measure(torch.device("cpu"), quick=False, name=name, concepts=concepts):
            print(row, flush=True)
            view, model, items = row["model"].split(", ")
            rest = {k: v for k, v in row.items() if k not in ("figure", "model", "seconds", "fit_in_seconds")}
            rows.append({"view": view, "model": model, "items": items.split()[0], **rest})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).round(4).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
