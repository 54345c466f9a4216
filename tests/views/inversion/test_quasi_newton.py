"""L-BFGS of rows at once: each as a plain one alone, and to the minimum where that is known."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.models import Model
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.inversion.loop import InversionLoop
from xgap_analysis.views.inversion.quasi_newton import CURVED, DECREASE, FIRST, LBFGS, SHORTEN

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def alone(loss: Loss, x: np.ndarray, passes: int, memory: int) -> tuple[np.ndarray, list[float]]:
    """One row in numpy: the accepted point and the loss of it after each pass."""
    value, gradient = loss(x)
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    values, length, direction = [value], 1.0, None
    for _ in range(passes - 1):
        if direction is None:
            direction, parts = gradient, []
            for step, change in reversed(pairs):
                parts.append(step @ direction / (step @ change))
                direction = direction - parts[-1] * change
            if pairs:
                step, change = pairs[-1]
                scale = step @ change / (change @ change)
            else:
                scale = FIRST / np.linalg.norm(gradient)
            direction = direction * scale
            for (step, change), part in zip(pairs, reversed(parts), strict=True):
                direction = direction + (part - change @ direction / (step @ change)) * step
            direction = -direction if direction @ gradient > 0 else -scale * gradient
        tried = x + length * direction
        new, slope_new = loss(tried)
        slope = length * (gradient @ direction)
        step, change = tried - x, slope_new - gradient
        accepted = new <= value + DECREASE * slope
        kept = step @ change > CURVED * np.linalg.norm(step) * np.linalg.norm(change)
        if kept:
            pairs = [*pairs, (step, change)][-memory:]
        if not accepted:
            length = SHORTEN[1] if kept else length * float(np.clip(-slope / (2 * (new - value - slope)), *SHORTEN))
        if accepted:
            x, value, gradient, length = tried, new, slope_new, 1.0
        if accepted or kept:
            direction = None
        values.append(value)
    return x, values


def rough(n: int, size: int) -> Callable[[Tensor], Tensor]:
    """Losses `[n]` of points `[n, 1, size]` with valleys and hills, so that some steps are refused."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(n, size, generator=generator, dtype=torch.float64) * 4 + 0.05
    centre = torch.randn(n, size, generator=generator, dtype=torch.float64)

    def losses(x: Tensor) -> Tensor:
        away = x[:, 0] - centre
        return (scale * away**2).sum(1) + torch.sin(3 * x[:, 0]).sum(1)

    return losses


def descend(losses: Callable[[Tensor], Tensor], start: Tensor, passes: int, memory: int) -> tuple[Tensor, Tensor]:
    tried = start.clone()
    optimiser, seen = LBFGS(tried, memory), []
    for _ in range(passes):
        points = tried.clone().requires_grad_()
        loss = losses(points)
        gradient = torch.autograd.grad(loss.sum(), points)[0]
        seen.append(optimiser.see(loss.detach(), gradient))
        optimiser.step(gradient)
    return optimiser.tokens, torch.stack(seen)


@pytest.mark.parametrize("memory", [1, 3, 20])
def test_each_row_is_a_plain_one(memory: int) -> None:
    n, size, passes = 6, 5, 25
    losses, start = rough(n, size), torch.randn(n, 1, size, generator=torch.Generator().manual_seed(3)).double()
    points, seen = descend(losses, start, passes, memory)
    refused = 0
    for row in range(n):

        def loss(x: np.ndarray, row: int = row) -> tuple[float, np.ndarray]:
            at = start.clone()
            at[row, 0] = torch.from_numpy(x)
            at.requires_grad_()
            value = losses(at)[row]
            return value.item(), torch.autograd.grad(value, at)[0][row, 0].numpy()

        expected, values = alone(loss, start[row, 0].numpy(), passes, memory)
        refused += sum(a == b for a, b in itertools.pairwise(values))
        torch.testing.assert_close(seen[:, row], torch.tensor(values, dtype=torch.float64), atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(points[row, 0], torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert refused > 0


def test_a_quadratic_is_solved_and_its_loss_never_rises() -> None:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(4, 8, 8, generator=generator).double()
    hessian, centre = root @ root.mT + 0.5 * torch.eye(8), torch.randn(4, 8, generator=generator).double()

    def losses(x: Tensor) -> Tensor:
        away = x[:, 0] - centre
        return 0.5 * torch.einsum("ni,nij,nj->n", away, hessian, away)

    points, seen = descend(losses, torch.zeros(4, 1, 8).double(), 80, 20)
    torch.testing.assert_close(points[:, 0], centre, atol=1e-6, rtol=0)
    assert (seen.diff(dim=0) <= 0).all()


def test_a_row_whose_loss_is_no_number_does_not_move_and_disturbs_no_other() -> None:
    losses, start = rough(3, 5), torch.zeros(3, 1, 5).double()
    expected, _ = descend(losses, start, 12, 5)
    points, _ = descend(lambda x: losses(x) * torch.tensor([1.0, torch.nan, 1.0]), start, 12, 5)
    assert torch.equal(points[[0, 2]], expected[[0, 2]])
    assert torch.equal(points[1], start[1])


@pytest.mark.parametrize("rule", ["fixed", "plateau", 0.97])
def test_rows_stop_as_alone_and_a_batch_forgets_the_one_before(rule: str | float) -> None:
    weight = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    start = 0.02 * torch.randn(7, 2, 6, generator=torch.Generator().manual_seed(1))
    targets = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    options = {"steps": 60, "lr": 0.0, "weight_decay": 0.0, "stop": rule, "optimiser": "l-bfgs"}

    def loop(n: int) -> InversionLoop:
        return InversionLoop(lambda t: torch.tanh(t.flatten(1)) @ weight, (n, 2, 6), 5, start.device, **options)

    whole, single = loop(7), loop(1)
    whole.run(-start, targets.flip(0))
    found = whole.run(start, targets, snapshots=(0, 5, 60))
    assert (found.loss.diff(dim=0) <= 1e-6).all()
    assert found.loss[-1].mean() < 0.1
    reached = 1 - torch.cosine_similarity(found.features, targets)
    torch.testing.assert_close(reached, found.loss[-1], atol=2e-3 if rule == "fixed" else 1e-6, rtol=0)
    torch.testing.assert_close(found.snapshots[0], loop(7).run(start, targets, snapshots=(0,)).snapshots[0])
    for row in range(7):
        one = single.run(start[row : row + 1], targets[row : row + 1])
        torch.testing.assert_close(found.loss[:10, row], one.loss[:10, 0], atol=1e-4, rtol=1e-2)
        torch.testing.assert_close(found.loss[-1, row], one.loss[-1, 0], atol=2e-3, rtol=0)


def test_an_inversion_says_its_optimiser_and_needs_fewer_steps(make_model: Callable[..., Model]) -> None:
    model = make_model("native")
    vectors = torch.randn(8, 24, generator=torch.Generator().manual_seed(9))
    given = Features(vectors, [f"item {i}" for i in range(8)], "image", "image")
    quiet = {"store": None, "progress": False}
    usual = invert(model, given, steps=100, **quiet)
    quick = invert(model, given, steps=50, optimiser="l-bfgs", **quiet)
    assert quick.loss[-1].mean() < usual.loss[-1].mean()
    assert (quick.provenance["optimiser"], "lr" in quick.provenance) == ("l-bfgs", False)
    assert ("optimiser" in usual.provenance, usual.provenance["lr"]) == (False, 2e-2)
    with pytest.raises(XgapError, match="optimiser is 'adamw' or 'l-bfgs', not 'sgd'"):
        invert(model, given, optimiser="sgd", **quiet)
