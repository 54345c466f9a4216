"""From outside the package: a view and a scorer of one's own, as functions and under names, wherever they belong."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError

COLOURS = ("red", "green", "blue", "black", "white", "grey")


def noisy(model: Any, items: Any, *, sigma: float = 0.1, seed: int = 42, store: Any = None) -> xg.Features:
    """A view: native image features with Gaussian noise."""
    features = xg.encode(model, items, store=store, progress=False)
    noise = torch.randn(features.vectors.shape, generator=torch.Generator().manual_seed(seed))
    return replace(features, vectors=features.vectors + sigma * noise)


def euclidean(query: Tensor, gallery: Tensor, *, power: float = 1.0) -> Tensor:
    """A scorer: the negative distance, to a power."""
    return -torch.cdist(query, gallery).pow(power)


def data(split: str = "test") -> xg.Dataset:
    """Two images and a caption of each colour."""
    ids = [f"{colour}{i}" for colour in COLOURS for i in range(2)]
    label = {i: i[:-1] for i in ids} | {f"a {colour}": colour for colour in COLOURS}

    def opener(item: str) -> Image.Image:
        return Image.new("RGB", (32, 32), item[:-1]).rotate(int(item[-1]))

    texts = xg.Texts([f"a {colour}" for colour in COLOURS], [f"a {colour} square" for colour in COLOURS])
    return xg.Dataset("colours", split, xg.Images(ids, opener, "colours 1"), texts, {"colour": label})


@pytest.fixture
def registered() -> None:
    """Both under names, as a plug-in registers them."""
    xg.register_view("noisy", modality="image")(noisy)
    xg.register_scorer("euclidean")(euclidean)


def main_values(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    rows = xg.main_rows(table)
    return dict(zip(zip(rows["comparison"], rows["scorer"], strict=True), rows["value"], strict=True))


def study(model: Any, view: Any, scorer: Any) -> xg.Study:
    own = xg.Comparison("N-I", view, "image", baseline="I-I")
    return xg.Study([model], [data()], ["I-I", own], scorers=["cosine", scorer], progress=False)


def test_plain_functions_are_a_view_and_a_scorer(model: Any) -> None:
    table = study(model, noisy, euclidean).run()
    values = main_values(table)
    assert set(values) == {(c, s) for c in ("I-I", "N-I") for s in ("cosine", "euclidean")}
    # On unit rows the distance ranks as the cosine does.
    assert values["I-I", "euclidean"] == pytest.approx(values["I-I", "cosine"], abs=1e-6)
    images = xg.encode(model, data().images, progress=False)
    assert values["N-I", "cosine"] == pytest.approx(
        xg.retrieval(noisy(model, data().images), images, data())["ap"].mean()
    )
    native = table[(table["comparison"] == "I-I") & (table["scorer"] == "cosine")]
    assert native["difference"].isna().all()
    other = table[table["main"] & (table["scorer"] == "euclidean") & (table["comparison"] == "I-I")]
    assert other["difference"].tolist() == pytest.approx([0], abs=1e-6)  # from the first scorer of the study


def test_registered_names_with_options_and_as_axes(model: Any, registered: None) -> None:
    named = xg.Study([model], [data()], ["noisy(sigma=0.2)-image"], scorers=["euclidean(power=2.0)"], progress=False)
    row = xg.main_rows(named.run()).iloc[0]
    assert (row["comparison"], row["scorer"]) == ("noisy(sigma=0.2)-image", "euclidean(power=2.0)")
    along = xg.Study([model], [data()], ["I-I", "noisy-image"], axes={"noisy.sigma": [0.0, 0.5]}, progress=False).run()
    rows = xg.main_rows(along)
    assert rows["noisy.sigma"].isna().tolist() == [True, False, False]  # I-I does not change, and stands there once
    assert rows["value"].iloc[0] == pytest.approx(rows["value"].iloc[1], abs=1e-6)  # no noise
    mixed = xg.view("fuse(image, noisy(sigma=0.2), weight=0.3)")
    assert (str(mixed), mixed.modality, mixed.is_seeded) == ("fuse(image, noisy(sigma=0.2), weight=0.3)", "image", True)


def test_scores_are_the_same_in_blocks_and_in_metrics(model: Any, registered: None) -> None:
    images = xg.encode(model, data().images, progress=False)
    whole = xg.score(images, images, "euclidean")
    assert torch.equal(whole, xg.score(images, images, euclidean, block=5))
    assert whole.shape == (12, 12)
    by_scorer = xg.misalignment(images, images, data(), scorer="euclidean")["misalignment"]
    assert by_scorer.tolist() == pytest.approx(
        xg.misalignment(images, images, data())["misalignment"].tolist(), abs=1e-6
    )
    assert xg.hubness(images, images, 3, scorer="euclidean").equals(xg.hubness(images, images, 3))


def test_the_board_offers_and_shows_both(model: Any, registered: None) -> None:
    from xgap_analysis import widgets

    board = widgets.VariantBoard(study(model, "noisy(sigma=0.2)", "euclidean"))
    assert "euclidean" in board._pick["scorers"].options
    assert board.chosen["comparisons"] == ("I-I", "N-I")
    board.run()
    assert board.error == ""
    assert set(zip(board.table()["comparison"], board.table()["scorer"], strict=True)) == {
        (c, s) for c in ("I-I", "N-I") for s in ("cosine", "euclidean")
    }
    assert "scorers=['cosine', 'euclidean']" in board.code()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: xg.view("nosy(sigma=1)"), "unknown view 'nosy'"),
        (lambda: xg.view("oti(stepss=3)"), "unknown option of oti 'stepss'; nearest names: steps"),
        (lambda: xg.view(3), "a view is a name, a View or a function"),
        (lambda: xg.scorer("cosin"), "unknown scorer 'cosin'; nearest names: cosine"),
        (lambda: xg.scorer("cosine(tau=1)"), "unknown option of cosine 'tau'"),
        (lambda: xg.register_scorer("seven")(7), "must be a function"),  # type: ignore[arg-type]
        (lambda: xg.register_view("image", modality="image")(noisy), "there is a view named 'image' already"),
        (lambda: xg.Study(["tiny"], ["emoji"], axes={"otti.steps": [1]}), "unknown axis"),
        (lambda: xg.Study(["tiny"], ["emoji"], axes={"oti.steps": []}), "needs a list of values"),
    ],
)
def test_mistakes_are_one_sentence(made: Any, message: str) -> None:
    with pytest.raises(XgapError, match=message.replace("(", r"\(").replace(")", r"\)")):
        made()


def test_a_scorer_that_gives_something_else_is_refused(model: Any) -> None:
    images = xg.encode(model, data().images, progress=False)
    with pytest.raises(XgapError, match="must give a tensor of scores"):
        xg.score(images, images, lambda q, g: q.sum())
    with pytest.raises(XgapError, match="NaN or infinite"):
        xg.score(images, images, lambda q, g: q @ g.T * float("nan"))


def test_a_view_that_loses_the_items_ids_is_refused(model: Any) -> None:
    def listed(model: Any, items: Any) -> xg.Features:
        return xg.encode(model, list(items), store=None, progress=False)  # images without their ids

    with pytest.raises(XgapError, match="gave a row of id '0', which is not an item's; keep the items' ids"):
        xg.Study([model], [data()], [(listed, "image")], progress=False).run()
