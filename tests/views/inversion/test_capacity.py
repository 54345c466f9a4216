"""How many items are optimised together, and that a batch's size is nobody's result."""

from collections.abc import Callable

import pytest
import torch

from xgap_analysis.core.features import Features
from xgap_analysis.models import Model
from xgap_analysis.views.inversion import work
from xgap_analysis.views.inversion.capacity import FULL, MOST, ON_PROCESSOR, evened, most_rows, rows_within
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.inversion.loop import InversionLoop

CUDA = torch.device("cuda")  # a name; no device is used


@pytest.mark.parametrize(
    ("each", "rest", "free", "expected"),
    [(100, 50, 1_050, 10), (100, 50, 1_049, 9), (100, 0, 10**9, 500), (100, 50, 20, 1), (0, 50, 1_000, 500)],
)
def test_the_rows_that_fit_are_on_the_line_through_two_small_steps(
    each: int, rest: int, free: int, expected: int
) -> None:
    calls: list[int] = []

    def bytes_of(n: int) -> int:
        calls.append(n)
        return each * n + rest + (10**6 if len(calls) == 1 else 0)  # a workspace, once

    assert rows_within(bytes_of, free, 500) == expected
    assert max(calls) < 10


def test_a_device_that_holds_no_small_step_takes_items_one_by_one() -> None:
    def bytes_of(n: int) -> int:
        raise torch.OutOfMemoryError("full")

    assert rows_within(bytes_of, 10**9, 500) == 1


def test_batches_are_as_few_as_fit_and_nearly_equal() -> None:
    for n in range(1, 60):
        for most in range(1, 20):
            size = evened(n, most)
            assert size <= most
            assert -(-n // size) == -(-n // most)
            assert n - size * (n // size) == 0 or size - n % size < -(-n // most)


def test_the_most_at_once_is_what_fills_a_device() -> None:
    assert most_rows(torch.device("cpu"), 50) == ON_PROCESSOR
    assert most_rows(CUDA, 4) == MOST
    assert most_rows(CUDA, 256) == FULL // 256
    assert most_rows(CUDA, 2 * FULL) == 1


@pytest.mark.parametrize("size", [7, 300])
def test_a_result_does_not_depend_on_the_batch_that_memory_chose(
    size: int, make_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = make_model("native"), []
    vectors = torch.randn(23, 24, generator=torch.Generator().manual_seed(9))
    given = Features(vectors, [f"item {i}" for i in range(23)], "image", "image")
    settings = {"steps": 20, "stop": "plateau", "store": None, "progress": False}
    expected = invert(model, given, batch_size=23, **settings)
    original = InversionLoop.run

    def watched(self: InversionLoop, start: torch.Tensor, *rest: object, **options: object) -> object:
        sizes.append(len(start))
        return original(self, start, *rest, **options)

    monkeypatch.setattr(InversionLoop, "run", watched)
    monkeypatch.setattr(work, "most_rows", lambda device, length: size)
    found = invert(model, given, **settings)
    assert sizes == ([7, 7, 7, 2] if size == 7 else [23])
    assert (found.features.vectors * expected.features.vectors).sum(dim=1).min() > 0.9999
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=0)


def test_a_probe_is_one_step_whose_traces_the_next_batch_does_not_see(make_model: Callable[..., Model]) -> None:
    from xgap_analysis.views.inversion.invert import pseudo_forward

    forward = pseudo_forward(make_model("native"), "text", "a photo of {}", 1)
    start, targets = torch.full((3, 1, 32), 0.02), torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    options = {"steps": 5, "lr": 2e-2, "weight_decay": 0.01, "stop": "plateau"}
    loops = [InversionLoop(forward, (3, 1, 32), 24, torch.device("cpu"), **options) for _ in range(2)]
    loops[0].probe()
    first, second = (loop.run(start, targets) for loop in loops)
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.loss, second.loss)
