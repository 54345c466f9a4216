"""A fitted scorer is the same after it was written and read, and a file of something else is one sentence."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned import LEARNED, load_scorer, save_scorer
from xgap_analysis.scoring.scorer import Scorer

OPTIONS = {
    "x_pool": {"heads": 2},
    "glscl": {"queries": 3, "layers": 1, "heads": 2},
    "sprc": {"prompts": 2, "layers": 1, "heads": 2},
    "fdp": {"tau": 0.2},
    "grain": {"regions": 3, "layers": 1, "heads": 2},
}


def some(seed: int, space: str, d: int = 8, **about: str) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in (3, 2, 2, 3)]
    return TokenFeatures.from_sets(sets, "abcd", space, space, about)


def fitted(name: str, **about: str) -> tuple[Scorer, TokenFeatures, TokenFeatures]:
    query, gallery = some(0, "text", **about), some(1, "image", **about)
    more = {"boxes": {i: [[0, 0, 0.5, 0.5]] * n for i, n in zip("abcd", (3, 2, 2, 3), strict=True)}}
    options = {**OPTIONS[name], "epochs": 2, "learning_rate": 1e-2, **(more if name == "grain" else {})}
    return xg.fit_scorer(name, query, gallery, split="train", **options), query, gallery


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_what_is_read_scores_as_what_was_written(name: str, tmp_path: Path) -> None:
    before, query, gallery = fitted(name)
    after = load_scorer(save_scorer(before, tmp_path / "new" / "fitted.safetensors"))
    assert torch.equal(xg.score(query, gallery, after), xg.score(query, gallery, before))
    assert (str(after), after.function.losses) == (str(before), before.function.losses)  # type: ignore[attr-defined]
    assert [vars(of) for of in after.fitted_on] == [vars(of) for of in before.fitted_on]
    assert after.fitted_on[0].saw(query)
    assert set(OPTIONS) <= set(LEARNED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    scorer, _, _ = fitted("x_pool", model="a", weights="1", correction="center")
    return save_scorer(scorer, tmp_path / "x_pool.safetensors")


def test_features_unlike_those_of_the_fit_are_refused(file: Path) -> None:
    made = load_scorer(file)
    about = {"model": "a", "weights": "1", "correction": "center"}
    query, gallery = some(0, "text", **about), some(1, "image", **about)
    assert xg.score(query, gallery, made).shape == (4, 4)
    for other, message in (
        (some(1, "image", 12, **about), "the query has 8 dimensions and the gallery 12"),
        (some(1, "text", **about), "fitted on a gallery of space 'image', and this one is of space 'text'"),
        (some(1, "image", **{**about, "weights": "2"}), "features of model 'a', and the gallery is of 'a' with other"),
        (some(1, "image", **{**about, "correction": "none"}), "of correction 'center', and the gallery is of 'none'"),
    ):
        with pytest.raises(XgapError, match=message):
            xg.score(query, other, made)


def changed(file: Path, **about: object) -> Path:
    with safetensors.safe_open(file, framework="pt") as opened:
        known = json.loads(opened.metadata()["scorer"])
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  no mapping
    safetensors.torch.save_file(weights, file, metadata={"scorer": json.dumps({**known, **about})})
    return file


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"scorer": "y_pool(heads=1)"}, "unknown learned scorer 'y_pool'"),
        ({"scorer": "x_pool(head=1)"}, "unknown option of x_pool 'head'"),
        ({"scorer": "glscl(queries=8, heads=2)"}, "holds other weights than those of glscl"),
        ({"scorer": "x_pool(heads=1000000000)"}, "too few for its options"),
        ({"dim": 10**9}, "too few for its options"),
        ({"scorer": 3}, "unknown learned scorer '3'|cannot be read as a fitted scorer"),
        ({"scorer": "x_pool(heads=a)"}, "heads of x_pool is a whole number, not 'a'"),
        ({"dim": True}, "cannot be read as a fitted scorer"),
        ({"dim": "8"}, "cannot be read as a fitted scorer"),
        ({"provenance": [{}]}, "cannot be read as a fitted scorer"),
        ({"items": [["a"]]}, "cannot be read as a fitted scorer"),
    ],
)
def test_a_file_of_something_else_is_one_sentence(file: Path, about: dict[str, object], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        load_scorer(changed(file, **about))


def test_damaged_files_and_other_scorers_are_one_sentence(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(XgapError, match="cannot be read as a fitted scorer"):
        load_scorer(file)
    with pytest.raises(XgapError, match="cannot be read as a fitted scorer"):
        load_scorer(tmp_path / "nothing.safetensors")
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.ones(2)}, other)
    with pytest.raises(XgapError, match="does not hold a fitted scorer"):
        load_scorer(other)
    safetensors.torch.save_file({"x": torch.ones(2)}, other, metadata={"scorer": "[" * 100_000})
    with pytest.raises(XgapError, match="cannot be read as a fitted scorer"):
        load_scorer(other)
    with pytest.raises(XgapError, match=r"kept in a \.safetensors file, and 'x\.pt' is none"):
        load_scorer("x.pt")
    with pytest.raises(XgapError, match="scorer cosine has no weights of its own"):
        save_scorer(xg.scorer("cosine"), other)
    with pytest.raises(XgapError, match="scorer x_pool has no weights of its own"):
        save_scorer("x_pool", other)  # type: ignore[arg-type]  # a user's mistake
