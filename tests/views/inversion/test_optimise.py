from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.views.inversion.loop import (
    PLATEAU_GAIN,
    PLATEAU_STEPS,
    AdamW,
    InversionLoop,
    Optimised,
    Stop,
    check_stop,
    starts,
    unit_features,
)

MAP = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
SETTINGS = {"steps": 60, "lr": 2e-2, "weight_decay": 0.01}
STOPS = ("fixed", "plateau", 0.97)


def forward(tokens: Tensor) -> Tensor:
    """A small nonlinear encoder of `[n, 2, 6]`."""
    return torch.tanh(tokens.flatten(1)) @ MAP.to(tokens.dtype)


def problem(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = F.normalize(torch.randn(n, 5, generator=generator), dim=1)
    return starts([str(i) for i in range(n)], 2, 6, seed=0, std=0.02), targets


def optimise(
    forward: Callable[[Tensor], Tensor],
    start: Tensor,
    targets: Tensor,
    *,
    snapshots: Sequence[int] = (),
    **options: Any,
) -> Optimised:
    n, tokens, width = start.shape
    descent = InversionLoop(forward, (n, tokens, width), targets.shape[1], start.device, **options)
    return descent.run(start, targets, snapshots=snapshots)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(1e-4, 0.5), st.floats(0, 0.5), st.integers(1, 30))
def test_adamw_is_torchs(seed: int, lr: float, decay: float, steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours = torch.randn(3, 2, 4, generator=generator)
    theirs = ours.clone().requires_grad_()
    own, reference = AdamW(ours, lr, decay), torch.optim.AdamW([theirs], lr=lr, weight_decay=decay)
    for _ in range(steps):
        gradient = torch.randn(3, 2, 4, generator=generator)
        theirs.grad = gradient.clone()
        reference.step()
        own.step(gradient)
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-5)


def test_frozen_rows_keep_their_bits() -> None:
    tokens = torch.randn(3, 2, 4)
    before, optimiser = tokens.clone(), AdamW(tokens, 0.1, 0.1)
    optimiser.step(torch.randn(3, 2, 4), torch.tensor([True, False, True]))
    assert torch.equal(tokens[1], before[1])
    assert (tokens[[0, 2]] != before[[0, 2]]).all()


def test_the_loop_is_adamw_on_the_mean_loss_of_one_item() -> None:
    start, targets = problem(1)
    tokens = start.clone().requires_grad_()
    reference, losses = torch.optim.AdamW([tokens], lr=2e-2, weight_decay=0.01), []
    for _ in range(60):
        loss = F.cosine_embedding_loss(forward(tokens), targets, torch.ones(1))
        losses.append(loss.item())
        reference.zero_grad()
        loss.backward()
        reference.step()
    found = optimise(forward, start, targets, **SETTINGS)
    torch.testing.assert_close(found.tokens, tokens.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.loss[:, 0], torch.tensor(losses), atol=1e-5, rtol=1e-4)
    assert found.loss[-1, 0] < 0.5 * found.loss[0, 0]


@pytest.mark.parametrize("stop", ["fixed", "plateau", 0.5])
def test_a_descent_forgets_the_batch_before(stop: str | float) -> None:
    (start, targets), settings = problem(4), {**SETTINGS, "stop": stop}
    descent = InversionLoop(forward, (4, 2, 6), 5, start.device, **settings)
    first = descent.run(start, targets, snapshots=(7,))
    kept = first.loss.clone(), first.tokens.clone()
    descent.run(-start, targets.flip(0))
    assert torch.equal(first.loss, kept[0])  # what was given is the caller's
    assert torch.equal(first.tokens, kept[1])
    again = descent.run(start, targets, snapshots=(7,))
    for found in (again, optimise(forward, start, targets, snapshots=(7,), **settings)):
        assert torch.equal(found.tokens, first.tokens)
        assert torch.equal(found.loss, first.loss)
        assert torch.equal(found.snapshots[7], first.snapshots[7])


def alone(start: Tensor, target: Tensor, steps: int, rule: str | float) -> tuple[Tensor, list[float], int]:
    """One item as a first implementation would write it: its tokens, its losses, and the number of its updates."""
    tokens = start[None].clone().requires_grad_()
    optimiser = torch.optim.AdamW([tokens], lr=SETTINGS["lr"], weight_decay=SETTINGS["weight_decay"])
    losses, best, since = [], float("inf"), 0
    for step in range(steps):
        loss = 1 - F.cosine_similarity(forward(tokens), target[None])
        losses.append(loss.item())
        if isinstance(rule, float) and 1 - losses[-1] >= rule:
            return tokens.detach()[0], losses, step
        if losses[-1] < best - PLATEAU_GAIN:
            best, since = losses[-1], 0
        else:
            since += 1
        if rule == "plateau" and since >= PLATEAU_STEPS:
            return tokens.detach()[0], losses, step
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    return tokens.detach()[0], losses, steps


@pytest.mark.parametrize("rule", STOPS)
def test_each_row_does_and_stops_as_it_would_alone_in_a_plain_loop(rule: str | float) -> None:
    """The step that keeps all in tensors and looks at none of them, which is the one that CUDA captures."""
    start, targets = problem(9)
    steps = 400
    descent = InversionLoop(forward, (9, 2, 6), 5, start.device, **{**SETTINGS, "steps": steps}, stop=rule)
    descent._load(start, targets)
    for _ in range(steps):
        descent._step()
    found, updates = optimise(forward, start, targets, **{**SETTINGS, "steps": steps}, stop=rule), []
    assert torch.equal(found.tokens, descent._tokens)  # a look from the host changes no row
    torch.testing.assert_close(found.loss, descent._losses, atol=1e-6, rtol=0)
    for row in range(9):
        tokens, losses, n = alone(start[row], targets[row], steps, rule)
        expected = torch.tensor([*losses, *[losses[-1]] * (steps - len(losses))])
        torch.testing.assert_close(found.loss[:, row], expected, atol=2e-5, rtol=1e-3)
        torch.testing.assert_close(found.tokens[row], tokens, atol=1e-3, rtol=1e-3)
        if rule != "fixed":
            moves = (found.loss[:, row].diff() != 0).nonzero()[:, 0].tolist()
            assert n == max(moves, default=-1) + 1
        updates.append(n)
    assert len(set(updates)) > 3 or rule == "fixed"  # rows stop at steps of their own, most between two looks


@pytest.mark.parametrize("rule", STOPS)
def test_a_step_that_is_replayed_does_what_the_plain_one_does(
    rule: str | float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the capture, on any machine: the buffers that a replay reads and writes hold the batch at hand."""
    start, targets = problem(9)
    settings = {**SETTINGS, "stop": rule}
    descent, captures = InversionLoop(forward, (9, 2, 6), 5, start.device, **settings), []
    monkeypatch.setattr(descent, "_to_capture", True)
    monkeypatch.setattr(descent, "_captured", lambda: captures.append(1) or descent._step)
    for first, goal in ((start, targets), (-start, targets.flip(0)), (start, targets)):
        expected = optimise(forward, first, goal, snapshots=(7,), **settings)
        replayed = descent.run(first, goal, snapshots=(7,))
        for part in ("tokens", "features", "loss"):
            assert torch.equal(getattr(replayed, part), getattr(expected, part))
        assert torch.equal(replayed.snapshots[7], expected.snapshots[7])
    assert captures == [1]


@pytest.mark.parametrize("rule", STOPS)
@pytest.mark.parametrize("index", [0, 1])
def test_the_captured_step_is_the_plain_one(index: int, rule: str | float) -> None:
    """The second device is not the current one, on which a graph would be captured unless it is told."""
    if torch.cuda.device_count() <= index:
        pytest.skip(f"a CUDA graph needs a CUDA device {index}")
    start, targets = problem(9)
    device = torch.device("cuda", index)
    settings = {**SETTINGS, "stop": rule}
    descent = InversionLoop(forward_on(device), (9, 2, 6), 5, device, **settings)
    for first, goal in ((start, targets), (-start, targets.flip(0)), (start, targets)):
        expected = optimise(forward, first, goal, snapshots=(7,), **settings)
        captured = descent.run(first, goal, snapshots=(7,))
        assert descent._replay is not None  # and not the plain step in its place
        torch.testing.assert_close(captured.loss.cpu(), expected.loss, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(captured.snapshots[7].cpu(), expected.snapshots[7], atol=1e-4, rtol=1e-3)


def forward_on(device: torch.device | str) -> Callable[[Tensor], Tensor]:
    there = MAP.to(device)  # a copy inside the step could not be captured
    return lambda tokens: torch.tanh(tokens.flatten(1)) @ there


def test_loss_and_snapshots_say_what_was_before_and_after_each_update() -> None:
    start, targets = problem(4)
    found = optimise(forward, start, targets, snapshots=(0, 7, 60), **SETTINGS)
    assert sorted(found.snapshots) == [0, 7, 60]
    assert torch.equal(found.snapshots[0], unit_features(forward, start))
    assert torch.equal(found.snapshots[60], found.features)
    seventh = optimise(forward, start, targets, **{**SETTINGS, "steps": 7})
    assert torch.equal(found.snapshots[7], seventh.features)
    assert torch.equal(found.loss[:7], seventh.loss)
    torch.testing.assert_close(found.loss[7], 1 - (found.snapshots[7] * targets).sum(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.features.norm(dim=1), torch.ones(4))
    assert torch.equal(start, problem(4)[0])  # the start is left as it was


@pytest.mark.parametrize("stop", ["fixed", "plateau", 0.9])
def test_items_do_not_depend_on_their_company(stop: str | float) -> None:
    start, targets = problem(9)
    settings = {**SETTINGS, "steps": 200, "stop": stop, "snapshots": (20,)}
    together = optimise(forward, start, targets, **settings)
    for i in range(9):
        alone = optimise(forward, start[i : i + 1], targets[i : i + 1], **settings)
        torch.testing.assert_close(alone.tokens[0], together.tokens[i], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(alone.loss[:, 0], together.loss[:, i], atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(alone.snapshots[20][0], together.snapshots[20][i], atol=1e-4, rtol=1e-3)


def test_an_item_stops_at_its_cosine() -> None:
    start, targets = problem(9)
    found = optimise(forward, start, targets, **{**SETTINGS, "steps": 300}, stop=0.8)
    full = optimise(forward, start, targets, **{**SETTINGS, "steps": 300})
    for loss, free in zip(found.loss.T, full.loss.T, strict=True):
        first = int((free <= 0.2).int().argmax())
        assert free[first] <= 0.2  # each of these can be reached
        torch.testing.assert_close(loss[: first + 1], free[: first + 1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(loss[first:], loss[first].expand(300 - first), atol=1e-6, rtol=0)


def test_a_plateau_is_a_stretch_without_gain() -> None:
    stop = Stop("plateau", 2, torch.device("cpu"))
    for step in range(PLATEAU_STEPS + 3):
        falling = 1 - 2 * PLATEAU_GAIN * step
        stop.see(torch.tensor([falling, max(falling, 1 - 4 * PLATEAU_GAIN)]))
    assert stop.active.tolist() == [True, False]


def test_starts_belong_to_items() -> None:
    made = starts(["a", "b", "c"], 2, 500, seed=3, std=0.02)
    assert torch.equal(starts(["c", "a"], 2, 500, seed=3, std=0.02), made[[2, 0]])
    assert not torch.equal(starts(["a"], 2, 500, seed=4, std=0.02)[0], made[0])
    assert len({float(row[0, 0]) for row in made}) == 3
    assert float(made.std()) == pytest.approx(0.02, rel=0.1)
    assert abs(float(made.mean())) < 0.002


def test_it_runs_inside_inference_mode() -> None:
    start, targets = problem(2)
    expected = optimise(forward, start, targets, **SETTINGS)
    with torch.inference_mode():
        inside = optimise(forward, start.clone(), targets.clone(), **SETTINGS)
    assert torch.equal(inside.tokens, expected.tokens)


@pytest.mark.parametrize("rule", ["never", 1.5, -1.0, True])
def test_rules_that_are_none(rule: object) -> None:
    with pytest.raises(XgapError, match="stop is"):
        check_stop(rule)
