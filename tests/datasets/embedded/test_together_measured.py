"""The table of three towers tuned together: the card has what the command writes, and numbers follow from features."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root

ROOT = data_root() / "spoken"
TABLE = pd.read_parquet(ROOT / "together.parquet")
RECORD = json.loads((ROOT / "together.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def command() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("together_measured", ROOT / "together.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.path.insert(0, str(ROOT))  # its neighbours, by the names that a script knows them by
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(ROOT))
        for name in {"measure", "train", spec.name} - before:
            sys.modules.pop(name, None)


def test_the_card_has_the_table_of_the_results(command: ModuleType) -> None:
    words = command.compared(TABLE, RECORD["seeds"])
    card = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- TOGETHER -->\n{command.card_table(words, RECORD)}\n<!-- /TOGETHER -->" in card
    assert set(TABLE["setting"]) == {"start", *command.OBJECTIVES}
    assert not TABLE.duplicated(["setting", "seed", "quantity"]).any()


def test_a_recording_and_a_drawing_find_their_name_by_both_scores(command: ModuleType) -> None:
    rng, names = np.random.default_rng(0), ["cat", "dog", "owl"]
    concept = {f"{kind}/{name}": name for kind in "ait" for name in names} | {"a/lost": "lost"}
    rows = {kind: rng.normal(size=(3, 6)) for kind in "ait"}
    sets = {
        "A": xg.Features(
            np.vstack([rows["a"], rng.normal(size=(1, 6))]), [*(f"a/{n}" for n in names), "a/lost"], "audio", "audio"
        ),
        "I": xg.Features(rows["i"][::-1].copy(), [f"i/{n}" for n in names[::-1]], "image", "image"),
        "T": xg.Features(rows["t"], [f"t/{n}" for n in names], "text", "text"),
    }
    found = command.by_both(sets, concept)
    unit = {kind: of / np.linalg.norm(of, axis=1, keepdims=True) for kind, of in rows.items()}
    for how, query in (("sum", unit["a"] + unit["i"]), ("product", unit["a"] * unit["i"])):
        assert found[how].tolist() == [float((q @ unit["t"].T).argmax() == i) for i, q in enumerate(query)]
        assert list(found[how].index) == [f"a/{n}" for n in names]  # what has no drawing is no query


def test_both_objectives_start_from_the_same_features(command: ModuleType) -> None:
    learners = [command.Together(objective, command.Recipe()) for objective in command.OBJECTIVES]
    pixels = torch.randn(3, 3, *learners[0]._start.frozen().image._size, generator=torch.Generator().manual_seed(0))
    ids = learners[0]._start.tokenize(["a cat", "a dog", "an owl"])
    sheets = torch.randn(3, learners[0].sizes.frames, learners[0].sizes.bands)
    with torch.no_grad():
        made = [learner.eval()(pixels, ids, sheets) for learner in learners]
        for first, second in zip(*made, strict=True):
            assert torch.equal(first, second)
            assert (first.norm(dim=1) - 1).abs().max() < 1e-5
        pairwise = learners[0].loss(made[0], torch.Generator())
        x, y, z = (of.double().numpy() for of in made[0])
        expected = 0.0
        for a, b in ((x, y), (x, z), (y, z)):
            logits = a @ b.T / command.Recipe.temperature
            sides = [np.log(np.exp(s).sum(axis=1)) - np.diag(s) for s in (logits, logits.T)]
            expected += np.mean(sides)
    assert float(pairwise) == pytest.approx(expected, abs=1e-3)
