"""An inversion is found again item by item, whatever the list, the name of the model and the words of the template."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xgap_analysis.core.features import Features
from xgap_analysis.models import Model
from xgap_analysis.store import Store
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.inversion.loop import InversionLoop

Make = Callable[..., Model]
Run = Callable[..., tuple[int, Features]]


def targets(n: int) -> Features:
    vectors = torch.randn(n, 24, generator=torch.Generator().manual_seed(3))
    return Features(vectors, [f"item {i}" for i in range(n)], "image", "image")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The number of items that an inversion computed, and its features."""
    sizes: list[int] = []
    whole = InversionLoop.run

    def counted(self: InversionLoop, start: torch.Tensor, *rest: object, **options: object) -> object:
        sizes.append(len(start))
        return whole(self, start, *rest, **options)

    monkeypatch.setattr(InversionLoop, "run", counted)

    def count(model: Model, given: Features, **options: object) -> tuple[int, Features]:
        sizes.clear()
        found = invert(model, given, **{"steps": 3, "progress": False, "store": Store(tmp_path), **options})
        return sum(sizes), found.features

    return count


def test_ten_more_than_a_thousand_are_ten(make_model: Make, run: Run) -> None:
    model, given = make_model("native"), targets(1010)
    n, before = run(model, given.select(given.ids[:1000]), steps=1)
    assert n == 1000
    n, after = run(model, given, steps=1)
    assert n == 10
    assert torch.equal(after.vectors[:1000], before.vectors)
    alone = invert(model, given.select(given.ids[1000:]), steps=1, store=None, progress=False).features
    assert (after.vectors[1000:] * alone.vectors).sum(dim=1).min() > 0.9999


def test_a_larger_part_computes_the_difference_and_another_order_nothing(make_model: Make, run: Run) -> None:
    model, given = make_model("native"), targets(6)
    assert [run(model, given.select(given.ids[:n]))[0] for n in (3, 6, 6, 2)] == [3, 3, 0, 0]
    n, turned = run(model, given.select(given.ids[::-1]))
    assert n == 0
    assert torch.equal(turned.vectors.flip(0), run(model, given)[1].vectors)


def test_an_item_is_its_target_and_where_its_start_is_drawn_its_id(make_model: Make, run: Run) -> None:
    model, given = make_model("native"), targets(4)
    renamed = replace(given, ids=[f"other {i}" for i in range(4)])
    moved = replace(given, vectors=given.vectors.roll(1, dims=1))
    assert [run(model, x)[0] for x in (given, renamed, moved, given)] == [4, 4, 4, 0]
    for seed in (1, 2):  # a start that is computed depends on neither id nor seed
        n = [run(model, x, start="closed-form", seed=seed)[0] for x in (given, renamed)]
        assert n == [4 if seed == 1 else 0, 0]


def test_another_name_and_words_of_the_same_tokens_share(make_model: Make, run: Run) -> None:
    model, given = make_model("native"), targets(4)
    options = [{}, {"template": "a  photo of {}"}, {"template": "one photo of {}"}]  # words are split at any space
    assert [run(model, given, **o)[0] for o in options] == [4, 0, 4]
    assert run(replace(model, name="/elsewhere"), given)[0] == 0
    text = copy.copy(model.text)
    text.tokenize = lambda captions: model.tokenize([f"the {c}" for c in captions])
    assert run(replace(model, towers={**model.towers, "text": text}), given)[0] == 4  # the same template, other tokens


def test_an_inversion_beside_its_snapshots_is_found_item_by_item(make_model: Make, run: Run) -> None:
    model, given = make_model("native"), targets(6)
    part = given.select(given.ids[2:4])
    assert run(model, part, snapshots=(1,))[0] == 2
    assert run(model, given)[0] == 4
    assert run(model, given, snapshots=(1,))[0] == 4  # the snapshots of those that lack them
    assert run(model, given, snapshots=(1,))[0] == 0
