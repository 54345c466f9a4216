"""Small towers take few of torch's threads, and give them back."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from xgap_analysis.models import Model
from xgap_analysis.models.threads import suited, worth
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.inversion.loop import InversionLoop

CPU = torch.device("cpu")


class Sized:
    """A tower of which nothing is known but its size."""

    def __init__(self, length: int, width: int) -> None:
        self.length, self.width = length, width


SMALL, LARGE = Sized(16, 128), Sized(257, 1024)


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_small_product_is_worth_one_thread_and_a_large_one_all() -> None:
    assert [worth(SMALL, n, 4) for n in (1, 64)] == [1, 1]
    assert worth(LARGE, 64, 4) == 4
    sizes = [worth(Sized(77, 512), n, 4) for n in (1, 2, 3, 4, 64)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 4)


class Watching:
    """A tower that notes torch's number of threads."""

    def __init__(self, tower: Any) -> None:
        self._tower, self.seen = tower, set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def encode(self, batch: Tensor, project: bool = True) -> Tensor:
        self.seen.add(torch.get_num_threads())
        return self._tower.encode(batch, project=project)


def test_encoding_and_inversion_take_one_and_give_four_back(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = replace(model, towers={**model.towers, "text": Watching(model.text)})
    steps, whole = set(), InversionLoop._descend
    features = encode(watched, ["a cat", "a dog"], store=None, progress=False)
    assert watched.text.seen == {1}
    assert torch.get_num_threads() == 4

    def descend(self: InversionLoop) -> Any:
        steps.add(torch.get_num_threads())
        if len(steps_left) == 0:
            raise KeyboardInterrupt
        steps_left.pop()
        return whole(self)

    steps_left = [None] * 3
    monkeypatch.setattr(InversionLoop, "_descend", descend)
    invert(model, features, steps=3, store=None, progress=False)
    assert (steps, torch.get_num_threads()) == ({1}, 4)
    with pytest.raises(KeyboardInterrupt):
        invert(model, features, steps=3, store=None, progress=False)
    assert torch.get_num_threads() == 4


def test_blocks_within_each_other_and_large_work_leave_the_number_as_it_was() -> None:
    with suited(SMALL, 1, CPU):
        with suited(SMALL, 1, CPU):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    for tower, device in ((LARGE, CPU), (SMALL, torch.device("cuda"))):
        with suited(tower, 64, device):
            assert torch.get_num_threads() == 4


@pytest.mark.parametrize("first_out", [0, 1])
def test_threads_whose_blocks_overlap_all_get_back_what_was_before(first_out: int) -> None:
    inside = [threading.Event() for _ in range(2)]
    leave = [threading.Event() for _ in range(2)]
    after: dict[int, int] = {}

    def work(which: int) -> None:
        with suited(SMALL, 1, CPU):
            inside[which].set()
            assert leave[which].wait(60)
        after[which] = torch.get_num_threads()

    workers = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for which, worker in enumerate(workers):
        worker.start()
        assert inside[which].wait(60)
    for which in (first_out, 1 - first_out):
        leave[which].set()
        workers[which].join()
    new = threading.Thread(target=lambda: after.update({2: torch.get_num_threads()}))
    new.start()
    new.join()
    assert (after, torch.get_num_threads()) == ({0: 4, 1: 4, 2: 4}, 4)
