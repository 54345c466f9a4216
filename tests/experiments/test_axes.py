"""Axes of a study: one column each, and the numbers of as many studies as there are values."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments import evaluation as evaluation_module
from xgap_analysis.experiments import study as study_module
from xgap_analysis.experiments.axes import cells_of
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.scoring import SCORERS

KINDS = ("cat", "dog", "owl", "bee", "elk")
NUMBERS = ["value", "low", "high", "difference", "p_value", "n_queries", "n_gallery"]


def animals(split: str) -> xg.Dataset:
    """Three images and two captions of each animal."""
    images = [f"{split}/{kind}/{i}" for kind in KINDS for i in range(3)]
    texts = {f"{split}/{kind}/{what}": f"{what} {kind}" for kind in KINDS for what in ("old", "small")}

    def opened(item: str) -> Image.Image:
        noise = np.random.default_rng(sum(map(ord, item))).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        return Image.fromarray(noise)

    return xg.Dataset(
        "animals",
        split,
        xg.Images(images, opened, f"animals {split}"),
        xg.Texts(tuple(texts), tuple(texts.values())),
        {
            "kind": {i: i.split("/")[1] for i in (*images, *texts)},
            "flies": {i: str(i.split("/")[1] in ("owl", "bee")) for i in (*images, *texts)},
        },
        {"kind": {kind: kind for kind in KINDS}},
        splits={name: lambda name=name: animals(name) for name in ("train", "val", "test")},  # type: ignore[misc]
    )


def study(*comparisons: Any, **settings: Any) -> xg.Study:
    given = {"models": ["tiny-untrained"], "datasets": ["emoji"], "comparisons": comparisons, "progress": False}
    return xg.Study(**{**given, **settings})


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, model: Any, other_model: Any) -> None:
    """Models and a dataset known by name."""
    models = {"small": model, "other": other_model}
    monkeypatch.setattr(study_module, "load_model", lambda name, **_: models[name])
    monkeypatch.setattr(study_module, "load_dataset", lambda name: animals("test"))


def shown(cells: list[Cell]) -> list[tuple[str, ...]]:
    return [(c.comparison.name, str(c.correction), str(c.scorer), str(dict(c.at))) for c in cells]


# Which cells there are


def test_an_axis_that_does_not_change_a_cell_does_not_repeat_it() -> None:
    axes = {"oti.steps": [1, 5], "pca-text.rank": [8, 16], "ovi.steps": [3]}
    cells = cells_of(study("I-I", "OTI-I", corrections=["none", "pca-text", "center"], axes=axes))
    steps, ranks = ([f"'oti.steps': {s}" for s in (1, 5)], [f"'pca-text.rank': {r}" for r in (8, 16)])
    assert shown(cells) == [
        ("I-I", "none", "cosine", "{}"),
        *(("OTI-I", "none", "cosine", f"{{{s}}}") for s in steps),
        *(("I-I", f"pca-text(rank={r[-2:].strip()})", "cosine", f"{{{r}}}") for r in ranks),
        *(("OTI-I", f"pca-text(rank={r[-2:].strip()})", "cosine", f"{{{s}, {r}}}") for s in steps for r in ranks),
        ("I-I", "center", "cosine", "{}"),
        *(("OTI-I", "center", "cosine", f"{{{s}}}") for s in steps),
    ]


def test_an_axis_reaches_views_within_views() -> None:
    cells = cells_of(study("I+OTI-I", axes={"oti.steps": [1, 5], "fuse.weight": [0.2]}))
    assert [str(c.comparison.query) for c in cells] == [
        f"fuse(image, oti(steps={steps}), weight=0.2)" for steps in (1, 5)
    ]
    assert [str(c.baseline.comparison.query) for c in cells if c.baseline] == ["image", "image"]


def test_an_axis_that_changes_only_the_baseline_gives_a_cell_for_each_value() -> None:
    own = xg.Comparison("native", "image", "image", baseline="OTI-I")
    cells = cells_of(study(own, axes={"oti.steps": [1, 5]}))
    assert [dict(c.at) for c in cells] == [{"oti.steps": 1}, {"oti.steps": 5}]
    assert [str(c.baseline.comparison.query) for c in cells if c.baseline] == ["oti(steps=1)", "oti(steps=5)"]


def test_a_baseline_has_the_options_and_the_scorer_of_its_cell() -> None:
    def distance(query: Tensor, gallery: Tensor, *, power: float = 1.0) -> Tensor:
        return -torch.cdist(query, gallery).pow(power)

    xg.register_scorer("distance")(distance)
    try:
        cells = cells_of(study("OTI-OTI", "I-I", scorers=["cosine", "distance"], axes={"distance.power": [1.0, 2.0]}))
        pairs = [(c, c.baseline) for c in cells if c.baseline is not None]
        assert {(str(c.scorer), str(b.scorer)) for c, b in pairs if c.comparison.name == "OTI-OTI"} == {
            (name, name) for name in ("cosine", "distance(power=1.0)", "distance(power=2.0)")
        }
        native = [(str(c.scorer), str(b.scorer)) for c, b in pairs if c.comparison.name == "I-I"]
        assert native == [(f"distance(power={p})", "cosine") for p in (1.0, 2.0)]  # the first scorer of the study
        (first,) = [c for c in cells if c.comparison.name == "I-I" and c.baseline is None]
        assert str(first.scorer) == "cosine"
        own = xg.Comparison("short", "oti", "image", baseline="OTI-OTI")
        cells = cells_of(study(own, axes={"oti.tokens": [1, 2]}))
        assert [str(c.baseline.comparison.gallery) for c in cells if c.baseline] == ["oti(tokens=1)", "oti(tokens=2)"]
    finally:
        SCORERS.remove("distance")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"oti.stepss": [1]}, "unknown option of oti 'stepss'; nearest names: steps"),
        ({"pca-text.ranks": [1]}, "unknown option of pca-text 'ranks'; nearest names: rank"),
        ({"cosine.tau": [1]}, "unknown option of cosine 'tau'"),
        ({"otti.steps": [1]}, "unknown axis .* 'otti'; nearest names: oti"),
        ({"limits": [1]}, "unknown axis .* 'limits'; nearest names: limit"),
        ({"oti": [1]}, "unknown axis .* 'oti'"),
        ({"oti.": [1]}, "unknown option of oti ''"),
        ({"split.x": [1]}, "unknown axis .* 'split'"),
        ({"limit": 20}, "axis 'limit' needs a list of values, such as .*, not 20"),
        ({"split": "val"}, "axis 'split' needs a list of values, such as .*, not 'val'"),
        ({"limit": []}, r"axis 'limit' needs a list of values, such as .*, not \[\]"),
    ],
)
def test_an_axis_that_cannot_be_is_refused_before_anything_runs(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        study("I-I", axes=axes)


def test_checkpoints_stand_in_the_place_of_one_model() -> None:
    with pytest.raises(XgapError, match="give one model"):
        study("I-I", models=["tiny", "tiny-intra"], axes={"checkpoint": ["tiny"]})


# Their numbers


def test_an_axis_over_steps_is_one_inversion_with_the_features_of_separate_ones(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    own = evaluation_module.invert
    monkeypatch.setattr(evaluation_module, "invert", lambda *a, **k: calls.append(k["steps"]) or own(*a, **k))
    along = study("OTI-I", models=[model], datasets=[animals("test")], axes={"oti.steps": [2, 7, 4]}, seeds=(5, 6))
    (evaluation,) = along.evaluations()
    images = evaluation.view("image", "all")
    for seed in along.seeds:
        for steps in (4, 2, 7):
            found = evaluation.view(f"oti(steps={steps})", "queries", seed)
            alone = xg.invert(model, images, steps=steps, seed=seed, store=None, progress=False).features
            assert found.ids == alone.ids
            assert (found.vectors - alone.vectors).abs().max() < 1e-6
    assert calls == [7, 7]  # one for each seed
    other = evaluation.view("oti(steps=3)", "queries")  # no value of the axis
    alone = xg.invert(model, images, steps=3, seed=5, store=None, progress=False).features
    assert (other.vectors - alone.vectors).abs().max() < 1e-6
    assert calls == [7, 7]


def test_other_options_of_the_inversion_hold_along_the_steps(model: Any) -> None:
    axes = {"oti.steps": [1, 3], "oti.tokens": [1, 2]}
    along = study("OTI-I", models=[model], datasets=[animals("test")], axes=axes)
    (evaluation,) = along.evaluations()
    for steps in (1, 3):
        for tokens in (1, 2):
            found = evaluation.view(f"oti(steps={steps}, tokens={tokens}, seed=9)", "queries")
            how = {"steps": steps, "tokens": tokens, "seed": 9}
            alone = xg.invert(model, evaluation.view("image", "all"), **how, store=None, progress=False).features
            assert (found.vectors - alone.vectors).abs().max() < 1e-6


def test_options_as_axes_give_the_rows_of_options_in_names(model: Any) -> None:
    data = {"models": [model], "datasets": [animals("test")]}
    axes = {"oti.steps": [1, 3], "random-subspace.rank": [3, 6]}
    along = study("I-I", "OTI-I", corrections=["none", "random-subspace"], axes=axes, **data).run()
    rows = along.set_index(["comparison", "correction", "oti.steps", "random-subspace.rank", "metric"])
    assert rows.index.is_unique
    for steps in (1, 3):
        for rank in (3, 6):
            by = f"random-subspace(rank={rank})"
            alone = study("I-I", "OTI-I", corrections=["none", by], steps=steps, **data).run()
            alone = alone.set_index(["comparison", "correction", "metric"])
            for name, correction in (("OTI-I", "none"), ("OTI-I", by), ("I-I", by)):
                at = (steps if name == "OTI-I" else np.nan, rank if correction == by else np.nan)
                for metric in ("ap", "recall_at_1"):
                    mine = rows.loc[(name, correction, *at, metric)]
                    wanted = alone.loc[(name, correction, metric)]
                    np.testing.assert_allclose(
                        mine[NUMBERS].astype(float), wanted[NUMBERS].astype(float), atol=1e-5, equal_nan=True
                    )


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("axis", "values", "setting"),
    [
        ("split", ["val", "test"], "split"),
        ("limit", [3, 4], "limit"),
        ("label_set", ["kind", "flies"], "label_set"),
        ("fit_split", ["train", "val"], "fit_split"),
        ("steps", [1, 2], "steps"),
        ("checkpoint", ["small", "other"], "models"),
    ],
)
def test_an_axis_over_a_setting_is_one_study_for_each_value(axis: str, values: list[Any], setting: str) -> None:
    settings = {"models": ["small"], "datasets": ["animals"], "corrections": ["none", "center"], "steps": 1}
    asked = {k: v for k, v in settings.items() if k != axis}
    table = study("I-I", "OTI-I", **asked, axes={axis: values}).run()
    single = [study("I-I", "OTI-I", **{**settings, setting: [v] if setting == "models" else v}).run() for v in values]
    wanted = pd.concat(single, ignore_index=True)
    pd.testing.assert_frame_equal(table[wanted.columns], wanted)
    if axis in ("limit", "fit_split", "steps", "checkpoint"):  # the table has a column of the others
        column = [v for v, t in zip(values, single, strict=True) for _ in range(len(t))]
        assert table[axis].tolist() == column
    assert table["value"].nunique() > 2


@pytest.mark.usefixtures("named")
def test_gaps_have_a_row_for_each_value_of_a_setting() -> None:
    gaps = study("I-I", models=["small"], datasets=["animals"], axes={"limit": [3, 5], "oti.steps": [1, 2]}).gaps()
    assert gaps["limit"].tolist() == [3, 5]
    alone = study("I-I", models=["small"], datasets=["animals"], limit=3).gaps()
    assert gaps["modality_gap"][0] == alone["modality_gap"][0] != gaps["modality_gap"][1]


def test_cells_along_an_axis_are_one_family_of_tests_that_says_so(model: Any) -> None:
    data = {"models": [model], "datasets": [animals("test")]}
    tables = [study("I-I", "OTI-I", axes={"oti.steps": steps}, **data).run() for steps in ([1, 2], [1, 3])]
    families = []
    for table in tables:
        tested = table[table["main"] & table["p_value"].notna()]
        assert set(tested["family_size"]) == {2}
        families += list(tested["family"].unique())
    assert len(set(families)) == 2  # other steps, another family


# Functions where names stand


def test_a_view_a_scorer_and_a_correction_are_plain_functions(model: Any) -> None:
    def half(model: Any, items: Any) -> xg.Features:
        features = xg.encode(model, items, store=None, progress=False)
        return xg.Features(features.vectors[:, :8], features.ids, "image", "image")

    def distance(query: Tensor, gallery: Tensor) -> Tensor:
        return -torch.cdist(query, gallery)

    def mirrored(calibration: xg.Calibration) -> Any:
        return lambda f: xg.Features(-f.vectors, f.ids, f.space, f.origin)

    data = {"models": [model], "datasets": [animals("test")]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*groups of queries")
        table = study(
            (half, half),
            "I-I",
            scorers=["cosine", distance],
            corrections=["none", mirrored],
            **data,
        ).run()
    rows = xg.main_rows(table).set_index(["comparison", "correction", "scorer"])
    assert set(rows.index) == {
        (c, b, s) for c in ("half-half", "I-I") for b in ("none", "mirrored") for s in ("cosine", "distance")
    }
    features = half(model, animals("test").images)
    wanted = xg.retrieval(features, features, animals("test"))["ap"].mean()
    assert rows["value"]["half-half"].tolist() == pytest.approx([wanted] * 4, abs=1e-6)
    with pytest.raises(XgapError, match="a query view and a gallery view, not of 3"):
        study(("image", "image", "text"))
    mixed = xg.view("fuse", "image", half, weight=0.2)
    assert str(study((mixed, "T")).comparison((mixed, "T")).name) == "fuse(image, half, weight=0.2)-text"
    evaluation = next(study("I-I", **data).evaluations())
    assert evaluation.scores((half, half)).equals(evaluation.scores(xg.comparison((half, half))))
    assert evaluation.scores("oti(steps=1)-image").equals(evaluation.scores(("oti(steps=1)", "I")))


def test_an_axis_over_splits_takes_a_dataset_object_along(model: xg.Model) -> None:
    table = xg.Study([model], [animals("test")], ["I-I"], axes={"split": ["test", "val"]}, progress=False).run()
    rows = xg.main_rows(table).set_index("split")["value"]
    assert list(rows.index) == ["test", "val"]
    alone = xg.main_rows(xg.Study([model], [animals("val")], ["I-I"], progress=False).run())["value"]
    assert rows["val"] == alone.iloc[0]


def test_settings_among_the_axes_are_printed(model: xg.Model) -> None:
    from xgap_analysis.experiments.tables import main_results

    table = xg.Study([model], [animals("test")], ["I-I"], axes={"limit": [2, 3]}, progress=False).run()
    assert [row["limit"] for row in main_results(table)] == ["2", "3"]
