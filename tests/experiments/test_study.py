"""The grid against plain loops: vectors are planted, and every value of the table is computed here a second time."""

import itertools
import math
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import CORRECTIONS, Calibration, Correction, FeatureMap, register_correction
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.experiments import study as study_module
from xgap_analysis.experiments.comparison import COMPARISONS, Comparison
from xgap_analysis.experiments.evaluation import Evaluation, is_untrained
from xgap_analysis.experiments.study import Study
from xgap_analysis.experiments.table_files import save_table
from xgap_analysis.experiments.tables import main_rows
from xgap_analysis.metrics import bootstrap_interval, gap_report, holm, misalignment, paired_test, verdict
from xgap_analysis.models import Model
from xgap_analysis.store import Store
from xgap_analysis.views import View, fuse, view
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert

KINDS = ("cat", "dog", "owl", "bee", "elk")
SEEDS = (1, 2, 3)
KEY = ["model", "dataset", "split", "label_set", "comparison", "correction", "metric"]
SIDE = {"image": "image", "oti": "image", "text": "text", "ovi": "text"}
SPACE = {"image": "image", "oti": "text", "text": "text", "ovi": "image"}


def drawing(item: str) -> Image.Image:
    noise = np.random.default_rng(zlib.crc32(item.encode())).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def animals(split: str = "test", **changed: Any) -> Dataset:
    """Four pictures and three captions of each animal; one of each asks."""
    images = [f"{split}/{kind}/{i}" for kind in KINDS for i in range(4)]
    texts = {f"{split}/{kind}/{what}": f"{what} {kind}" for kind in KINDS for what in ("name", "old", "small")}
    kind_of = {i: i.split("/")[1] for i in (*images, *texts)}
    made: dict[str, Any] = {
        "name": "animals",
        "split_name": split,
        "images": Images(images, drawing, f"digest of {split}"),
        "texts": Texts(tuple(texts), tuple(texts.values())),
        "labels": {"kind": kind_of, "flies": {i: str(kind in ("owl", "bee")) for i, kind in kind_of.items()}},
        "class_names": {"kind": {kind: f"the {kind}" for kind in KINDS}, "flies": {"True": "wings", "False": "legs"}},
        "image_queries": tuple(i for i in images if i.endswith("/0")),
        "text_queries": tuple(i for i in texts if i.endswith("/name")),
    }
    made["splits"] = {"train": lambda: animals("train"), "test": lambda: animals("test")}
    return Dataset(**{**made, **changed})


def planted(evaluation: Evaluation, wanted: str | View, part: str, seed: int | None = None) -> Features:
    """A view out of thin air: the same for the same arguments; the label shines through a little."""
    own = view(wanted)
    seed = evaluation.study.seeds[0] if seed is None else seed
    if own.name == "fuse":
        return fuse(*(planted(evaluation, argument, part, seed) for argument in own.arguments))
    name = own.name
    seed = seed if name in ("oti", "ovi") else 0
    data, side = evaluation.data, SIDE[name]
    if part == "classes":
        ids = list(data.class_names[evaluation.label_set])
        kinds = ids
    else:
        asking = data.image_queries if side == "image" else data.text_queries
        every = (data.images if side == "image" else data.texts).ids
        ids = [i for i in every if part == "all" or (i in asking) == (part == "queries")]
        kinds = [i.split("/")[1] for i in ids]
    rng = np.random.default_rng(zlib.crc32(f"{name} {part} {seed}".encode()))
    centre = {kind: np.random.default_rng(zlib.crc32(kind.encode())).normal(size=16) for kind in set(kinds)}
    vectors = np.stack([0.7 * centre[kind] for kind in kinds]) + rng.normal(size=(len(ids), 16))
    about = {"model": "planted", "weights": "0" * 64, "precision": "fp32", "activation": "gelu", "view": SIDE[name]}
    return Features(vectors, ids, SPACE[name], SIDE[name], about)


def planted_calibration(evaluation: Evaluation, by: Correction) -> Calibration:
    features = {space: planted(evaluation, space, "all") for space in ("image", "text")}
    return Calibration(features, "train", evaluation.encoder)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluation, "view", planted)


def average_precision(query: Features, gallery: Features, label: Mapping[str, str]) -> dict[str, float]:
    """Per query, the definition in a loop."""
    found = {}
    for q, vector in zip(query.ids, query.vectors.numpy().astype(float), strict=True):
        scores = {g: float(vector @ v) for g, v in zip(gallery.ids, gallery.vectors.numpy().astype(float), strict=True)}
        ranking = sorted((g for g in scores if g != q), key=lambda g: -scores[g])
        hits, precisions = 0, []
        for rank, g in enumerate(ranking, start=1):
            if label[g] == label[q]:
                hits += 1
                precisions.append(hits / rank)
        found[q] = sum(precisions) / len(precisions)
    return found


def top_one(query: Features, classes: Features, label: Mapping[str, str]) -> dict[str, float]:
    nearest = (query.vectors.double() @ classes.vectors.double().T).argmax(dim=1)
    return {q: float(classes.ids[int(k)] == label[q]) for q, k in zip(query.ids, nearest, strict=True)}


def expected_scores(
    evaluation: Evaluation, name: str, seed: int, correct: Callable[[Features], Features] = lambda x: x
) -> dict[str, float]:
    """The main measure of a comparison for each query, from its name alone."""
    view = {"I": "image", "OTI": "oti", "T": "text", "OVI": "ovi"}
    label = evaluation.data.labels[evaluation.label_set]
    if name in ("zero-shot", "OTI-T", "I-OVI"):
        query = planted(evaluation, "oti" if name == "OTI-T" else "image", "queries", seed)
        classes = planted(evaluation, "ovi" if name == "I-OVI" else "text", "classes", seed)
        return top_one(correct(query), correct(classes), label)
    asked, searched = ([view[x] for x in part.split("+")] for part in name.split("-"))
    queries = [correct(planted(evaluation, x, "queries", seed)) for x in asked]
    mixed = torch.stack([query.vectors for query in queries]).double().mean(dim=0)
    query = replace(queries[0], vectors=mixed) if len(queries) > 1 else queries[0]
    (of,) = searched
    gallery = planted(evaluation, of, "gallery" if SIDE[asked[0]] == SIDE[of] else "all", seed)
    return average_precision(query, correct(gallery), label)


def evaluation_of(study: Study) -> Evaluation:
    return next(iter(study.evaluations()))


# Known answers


@pytest.mark.usefixtures("world")
def test_every_comparison_has_the_values_of_a_plain_loop(model: Model) -> None:
    study = Study([model], [animals()], seeds=SEEDS, progress=False)
    table, evaluation = study.run(), evaluation_of(study)
    main = main_rows(table).set_index("comparison")
    assert list(main.index) == list(COMPARISONS)
    label = evaluation.data.labels["kind"]
    for name, comparison in COMPARISONS.items():
        row = main.loc[name]
        inverted = "OTI" in name or "OVI" in name
        by_seed = [expected_scores(evaluation, name, seed) for seed in (SEEDS if inverted else SEEDS[:1])]
        mean = {q: sum(s[q] for s in by_seed) / len(by_seed) for q in by_seed[0]}
        over_seeds = [sum(s.values()) / len(s) for s in by_seed]
        assert row["value"] == pytest.approx(sum(mean.values()) / len(mean)), name
        assert row["seeds"] == len(by_seed)
        spread = math.nan if len(by_seed) == 1 else float(np.std(over_seeds, ddof=1))
        assert row["seed_spread"] == pytest.approx(spread, nan_ok=True), name
        assert (row["n_queries"], row["n_unanswerable"]) == (len(mean), 0)
        assert row["n_groups"] == len({label[q] for q in mean})
        assert row["metric"] == ("correct_at_1" if comparison.task == "zero-shot" else "ap")
        base = expected_scores(evaluation, comparison.baseline, SEEDS[0])
        if name == comparison.baseline:
            assert math.isnan(row["difference"])
        else:
            difference = sum(mean[q] - base[q] for q in mean) / len(mean)
            assert row["difference"] == pytest.approx(difference, abs=1e-9), name
    sizes = main["n_gallery"].to_dict()
    assert sizes == {
        **dict.fromkeys(("I-I", "OTI-I", "OTI-OTI", "I+OTI-I"), 15),
        **dict.fromkeys(("T-T", "OVI-T", "OVI-OVI", "T+OVI-T"), 10),
        **{"I-T": 15, "T-I": 20, "zero-shot": 5, "OTI-T": 5, "I-OVI": 5},
    }


@pytest.mark.usefixtures("world")
def test_intervals_and_tests_are_those_of_the_metrics_over_groups_of_one_label(model: Model) -> None:
    study = Study([model], [animals()], comparisons=["zero-shot", "OTI-T"], seeds=SEEDS[:1], progress=False)
    rows, evaluation = main_rows(study.run()).set_index("comparison"), evaluation_of(study)
    before, after = (pd.Series(expected_scores(evaluation, name, SEEDS[0])) for name in ("zero-shot", "OTI-T"))
    groups = [evaluation.data.labels["kind"][i] for i in before.index]
    interval, test = bootstrap_interval(after, groups=groups), paired_test(before, after, groups=groups)
    row = rows.loc["OTI-T"]
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((test.low, test.high))
    assert row["p_value"] == pytest.approx(test.p_value)
    assert row["n_groups"] == test.n_groups == 5
    said = verdict(test.low, test.high, row["p_adjusted"], 5, -1)
    assert (row["verdict"], row["reason"]) == (said.word, said.reason)
    assert row["verdict"] == "inconclusive"
    assert "5 effective groups, at least" in row["reason"]


@pytest.mark.usefixtures("world")
def test_a_correction_is_fitted_on_the_other_split_and_applied_to_both_modalities(model: Model) -> None:
    study = Study([model], [animals()], ["I-I", "OTI-I", "zero-shot"], ["center"], seeds=SEEDS[:2], progress=False)
    main, evaluation = main_rows(study.run()).set_index("comparison"), evaluation_of(study)
    train = animals("train")
    mean = {
        s: encode(model, x, progress=False).vectors.mean(0) for s, x in (("image", train.images), ("text", train.texts))
    }

    def centred(features: Features) -> Features:
        return replace(features, vectors=features.vectors - mean[features.space])

    base = {name: expected_scores(evaluation, name, SEEDS[0]) for name in ("I-I", "zero-shot")}
    for name in ("I-I", "OTI-I", "zero-shot"):
        runs = [expected_scores(evaluation, name, seed, centred) for seed in SEEDS[:2]]
        values = {q: sum(r[q] for r in runs) / 2 for q in runs[0]} if name == "OTI-I" else runs[0]
        row = main.loc[name]
        assert row["correction"] == "center"
        assert row["value"] == pytest.approx(np.mean(list(values.values())), abs=1e-6)
        uncorrected = base[COMPARISONS[name].baseline]
        assert row["difference"] == pytest.approx(np.mean([values[q] - uncorrected[q] for q in values]), abs=1e-6)
        assert not row["transductive"]


@pytest.mark.usefixtures("world")
def test_another_level_has_relevance_and_classes_of_its_own(model: Model) -> None:
    study = Study([model], [animals()], ["I-I", "zero-shot"], label_set="flies", progress=False)
    main, evaluation = main_rows(study.run()).set_index("comparison"), evaluation_of(study)
    assert set(main["label_set"]) == {"flies"}
    assert main.loc["zero-shot", "n_gallery"] == 2
    for name in main.index:
        assert main.loc[name, "value"] == pytest.approx(np.mean(list(expected_scores(evaluation, name, 0).values())))
    with pytest.raises(XgapError, match="'animals' has no labels 'colour'; it has: kind, flies"):
        Study([model], [animals()], ["I-I"], label_set="colour", progress=False).run()


# The shape of the table


@pytest.mark.usefixtures("world")
def test_the_table_is_tidy(model: Model, other_model: Model) -> None:
    study = Study(
        [model, other_model], [animals(), animals("train")], corrections=["none", "center"], steps=2, progress=False
    )
    table = study.run()
    assert not table.duplicated(KEY).any()
    cells = itertools.product(("random-0", "random-1"), ("test", "train"), COMPARISONS, ("none", "center"))
    assert set(cells) == set(table[["model", "split", "comparison", "correction"]].itertuples(index=False, name=None))
    assert (table.groupby(KEY[:-1])["main"].sum() == 1).all()
    assert table["value"].between(0, 1).all()
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    is_baseline = (table["comparison"] == table["baseline"]) & (table["correction"] == "none")
    paired = ["difference", "difference_low", "difference_high", "p_value"]
    assert table.loc[is_baseline, [*paired, "verdict"]].isna().all(axis=None)
    rest = table[~is_baseline]
    assert len(rest) > 0
    assert rest[[*paired, "verdict"]].notna().all(axis=None)
    assert (rest["difference_low"] <= rest["difference"]).all()
    assert (rest["difference"] <= rest["difference_high"]).all()
    assert rest["p_value"].between(0, 1, inclusive="right").all()
    assert set(rest["verdict"]) <= {"supported", "contradicted", "inconclusive", "higher", "lower"}
    assert {"of_model", "of_weights", "of_precision", "of_activation", "of_view"} <= set(table)
    assert table["of_weights"].str.fullmatch("[0-9a-f]{64}").all()


@pytest.mark.usefixtures("world")
def test_a_table_of_baselines_alone_has_the_same_columns(model: Model) -> None:
    alone = Study([model], [animals()], ["I-I"], progress=False).run()
    both = Study([model], [animals()], ["I-I", "OTI-I"], progress=False).run()
    assert list(alone.columns) == list(both.columns)
    assert alone["difference"].isna().all()


@pytest.mark.usefixtures("world")
def test_a_table_is_saved_whole(model: Model, tmp_path: Path) -> None:
    table = Study([model], [animals()], ["I-I", "OTI-I"], progress=False).run()
    path = save_table(table, tmp_path / "results" / "table.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    assert list(path.parent.iterdir()) == [path]
    main = main_rows(table)
    assert list(main["comparison"]) == ["I-I", "OTI-I"]
    assert list(main.index) == [0, 1]


@pytest.mark.usefixtures("world")
def test_choosing_rows_of_a_table_changes_no_adjusted_p(model: Model) -> None:
    table = Study([model], [animals()], ["I-I", "OTI-I", "zero-shot", "OTI-T"], progress=False).run()
    tested = table[table["main"] & table["p_value"].notna()]
    assert len(tested) == 2
    assert set(tested["family_size"]) == {2}
    assert tested["family"].nunique() == 1
    assert tested["family"].str.startswith("random-0 animals test #").all()
    assert tested["p_adjusted"].tolist() == pytest.approx(holm(tested["p_value"]).tolist())
    fewer = Study([model], [animals()], ["I-I", "OTI-I"], progress=False).run()
    alone = main_rows(fewer).set_index("comparison").loc["OTI-I"]
    assert (alone["family_size"], alone["p_adjusted"]) == (1, alone["p_value"])
    assert alone["family"] not in set(tested["family"])  # another family, and it says so
    outside = table[~table["main"] & table["p_value"].notna()]
    assert set(outside["family"]) == {""}
    assert outside["p_adjusted"].isna().all()
    assert outside["reason"].str.contains("not in the family").all()


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("kind", ["shuffled labels", "first weights", "the study says so", "a correction"])
def test_a_control_has_numbers_and_no_verdict(kind: str, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xgap_analysis.experiments.evaluation.calibration_for", planted_calibration)
    data = animals().shuffled() if kind == "shuffled labels" else animals()
    asked = ["none", "random-subspace"] if kind == "a correction" else ["none"]
    if kind == "first weights":
        monkeypatch.setattr("xgap_analysis.experiments.evaluation.is_untrained", lambda name: name == model.name)
    control = kind == "the study says so"
    table = Study([model], [data], ["I-I", "OTI-I"], asked, control=control, progress=False).run()
    rows = main_rows(table).set_index(["correction", "comparison"])
    row = rows.loc[("random-subspace" if kind == "a correction" else "none", "OTI-I")]
    assert row["control"]
    assert pd.isna(row["verdict"])
    assert row["reason"] == "control"
    assert row["p_adjusted"] > 0
    assert rows.loc[("none", "OTI-I"), "control"] == (kind != "a correction")


def test_models_with_their_first_weights_are_known_by_name() -> None:
    assert is_untrained("tiny-untrained")
    assert is_untrained("ViT-B-32/random")
    assert not is_untrained("tiny")


# Comparisons and corrections of one's own


@pytest.fixture
def own_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))


@pytest.mark.usefixtures("world", "own_corrections")
def test_a_registered_correction_and_an_own_comparison_are_in_the_table(model: Model) -> None:
    fitted = []

    @register_correction("mirror", transductive=True)
    def mirror(calibration: Calibration) -> FeatureMap:
        fitted.append(calibration)
        sign = torch.ones(16)
        sign[:8] = -1
        return lambda features: replace(features, vectors=features.vectors * sign)

    own = Comparison("OTI-I, judged by OTI-OTI", "oti", "image", "retrieval", baseline="OTI-OTI", claim=-1)
    study = Study([model], [animals()], [own, "I-I"], ["none", "mirror"], seeds=SEEDS, progress=False)
    main, evaluation = main_rows(study.run()).set_index(["comparison", "correction"]), evaluation_of(study)
    assert [c.split for c in fitted] == ["train"]
    assert set(fitted[0].images.ids) == set(animals("train").images.ids)
    row = main.loc[(own.name, "none")]
    runs = {name: [expected_scores(evaluation, name, s) for s in SEEDS] for name in ("OTI-I", "OTI-OTI")}
    mean = {name: np.mean([list(r.values()) for r in of]) for name, of in runs.items()}
    assert row["value"] == pytest.approx(mean["OTI-I"])
    assert row["difference"] == pytest.approx(mean["OTI-I"] - mean["OTI-OTI"])  # both over all seeds
    assert row["baseline"] == "OTI-OTI"
    # Both sides are mirrored alike, so no cosine changes.
    mirrored = main.loc[("I-I", "mirror")]
    assert mirrored["value"] == pytest.approx(main.loc[("I-I", "none"), "value"])
    assert mirrored["difference"] == pytest.approx(0)
    assert list(main["transductive"]) == [c == "mirror" for _, c in main.index]


@pytest.mark.usefixtures("world")
def test_an_own_comparison_may_be_the_baseline_of_another(model: Model) -> None:
    first = Comparison("first", "image", "image", "retrieval", "first")
    second = Comparison("second", "image", "text", "zero-shot", "second")
    third = Comparison("third", "oti", "image", "retrieval", "first")
    main = main_rows(Study([model], [animals()], [first, second, third], progress=False).run()).set_index("comparison")
    assert main["difference"].notna().to_dict() == {"first": False, "second": False, "third": True}
    plain = main_rows(Study([model], [animals()], ["I-I", "OTI-I"], progress=False).run()).set_index("comparison")
    assert main.loc["third", "difference"] == plain.loc["OTI-I", "difference"]


@pytest.mark.usefixtures("world")
def test_a_correction_fitted_on_what_is_evaluated_is_called_transductive(model: Model) -> None:
    for fit_split, expected in (("train", {"none": False, "center": False}), ("test", {"none": False, "center": True})):
        study = Study([model], [animals()], ["I-I"], ["none", "center"], fit_split=fit_split, limit=3, progress=False)
        said = study.run().groupby("correction")["transductive"].unique()
        assert {name: list(values) for name, values in said.items()} == {k: [v] for k, v in expected.items()}


# What cannot be run


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"comparisons": ["OTI-II"]}, r"unknown comparison 'OTI-II'; nearest names: .*OTI-I"),
        ({"comparisons": [Comparison("x", "oti", "image", "retrieval", "I-II")]}, r"unknown comparison 'I-II'.* I-I"),
        ({"corrections": ["centre"]}, r"unknown correction 'centre'; nearest names: .*center"),
        ({"comparisons": "I-I"}, r"comparisons of a study is a list; write \['I-I'\]"),
        ({"models": "tiny"}, r"models of a study is a list; write \['tiny'\]"),
        ({"datasets": "emoji"}, r"datasets of a study is a list; write \['emoji'\]"),
        ({"models": ["tiny", "tiny"]}, "'tiny' stands twice in the models of a study"),
        ({"corrections": ["none", "center", "none"]}, "'none' stands twice in the corrections of a study"),
        ({"seeds": ()}, "at least one of its seeds"),
        ({"comparisons": []}, "at least one of its comparisons"),
        ({"models": []}, "at least one of its models"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_before_it_starts(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        Study(**{"models": ["tiny-untrained"], "datasets": ["emoji"], **asked})


def test_an_unknown_view_or_task_is_refused() -> None:
    with pytest.raises(XgapError, match="unknown view 'otti'; nearest names: oti"):
        Study(["tiny-untrained"], ["emoji"], [Comparison("x", "otti", "image", "retrieval", "I-I")])
    with pytest.raises(XgapError, match="unknown view 'otti'; nearest names: oti"):
        Comparison("x", "otti(steps=3)", "image")
    with pytest.raises(XgapError, match='is "retrieval" or "zero-shot", not \'ranking\''):
        Comparison("x", "oti", "image", "ranking", "I-I")


@pytest.mark.parametrize("name", ["T-T", "I-T", "T-I", "OVI-OVI"])
def test_a_dataset_without_texts_says_so_when_texts_are_wanted(model: Model, name: str) -> None:
    data = animals(texts=Texts((), ()), text_queries=())
    with pytest.raises(XgapError, match=r"dataset 'animals' \(test\) has no texts"):
        Study([model], [data], [name], steps=1, progress=False).run()
    assert len(Study([model], [data], ["I-I", "zero-shot"], progress=False).run()) > 0


def test_a_dataset_without_images_is_evaluated_by_its_texts(model: Model) -> None:
    data = animals(images=Images((), drawing), image_queries=())
    table = Study([model], [data], ["T-T"], progress=False).run()
    assert set(table["of_view"]) == {"text"}
    assert set(table["of_weights"]) == {model.weights_digest}
    with pytest.raises(XgapError, match=r"dataset 'animals' \(test\) has no images"):
        Study([model], [data], ["I-I"], progress=False).run()


def test_a_dataset_without_class_names_or_labels_says_so(model: Model) -> None:
    with pytest.raises(XgapError, match="'animals' names no classes of label set 'kind'"):
        Study([model], [animals(class_names={})], ["zero-shot"], progress=False).run()
    with pytest.raises(
        XgapError, match=r"'animals' \(test\) has no image that can be a query of zero-shot by the labels 'kind'"
    ):
        Study([model], [animals(class_names={"kind": {"yak": "yak"}})], ["zero-shot"], progress=False).run()
    with pytest.raises(XgapError, match="'animals' has no labels"):
        Study([model], [animals(labels={})], ["I-I"], progress=False).run()


def test_a_correction_without_a_split_to_be_fitted_on_says_so(model: Model) -> None:
    with pytest.raises(
        XgapError, match="'center' is fitted on the split 'train', which dataset 'animals' does not have"
    ):
        Study([model], [animals(splits={})], ["I-I"], ["center"], progress=False).run()
    silent = {"train": lambda: animals("train", texts=Texts((), ()), text_queries=())}
    with pytest.raises(XgapError, match="fitted on images and texts, and split 'train' of 'animals' has no texts"):
        Study([model], [animals(splits=silent)], ["I-I"], ["center"], progress=False).run()


# From pictures to the table


def test_the_views_are_the_encoded_and_the_inverted_items(model: Model) -> None:
    data = animals()
    study = Study([model], [data], seeds=(5, 6), steps=2, tokens=1, progress=False)
    evaluation = evaluation_of(study)
    images, texts = encode(model, data.images, progress=False), encode(model, data.texts, progress=False)
    classes = encode(model, [f"a photo of the {kind}" for kind in KINDS], progress=False)
    assert torch.equal(evaluation.view("image", "all").vectors, images.vectors)
    assert torch.equal(evaluation.view("text", "all").vectors, texts.vectors)
    assert torch.equal(evaluation.view("text", "classes").vectors, classes.vectors)
    assert evaluation.view("text", "classes").ids == KINDS
    assert evaluation.view("image", "queries").ids == data.image_queries
    assert torch.equal(evaluation.view("text", "gallery").vectors, texts.select(data.gallery("text")).vectors)
    for seed in (5, 6):
        asked, searched = images.select(data.image_queries), texts.select(data.gallery("text"))
        oti = invert(model, asked, steps=2, seed=seed, store=None, progress=False).features
        ovi = invert(model, searched, steps=2, tokens=1, seed=seed, store=None, progress=False).features
        assert torch.equal(evaluation.view("oti", "queries", seed).vectors, oti.vectors)
        assert torch.equal(evaluation.view("ovi", "gallery", seed).vectors, ovi.vectors)
        assert (evaluation.view("ovi", "classes", seed).ids, evaluation.view("ovi", "classes", seed).space) == (
            KINDS,
            "image",
        )
    assert not torch.equal(evaluation.view("oti", "queries", 5).vectors, evaluation.view("oti", "queries", 6).vectors)


def test_without_named_queries_one_view_is_queried_and_searched(model: Model) -> None:
    evaluation = evaluation_of(Study([model], [animals(image_queries=())], steps=2, progress=False))
    assert (
        evaluation.view("image", "queries").ids
        == evaluation.view("image", "gallery").ids
        == tuple(evaluation.data.images.ids)
    )
    assert evaluation.view("oti", "queries") is evaluation.view("oti", "gallery")


def test_a_second_run_finds_everything_in_the_store_and_gives_the_same_table(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"corrections": ["none", "center"], "steps": 2, "store": Store(tmp_path), "progress": False}
    first = Study([model], [animals()], **asked).run()
    stored = {entry.key for entry in Store(tmp_path).entries()}
    assert len(stored) == 4  # images, texts and the inversions of both; parts of a dataset are items of these

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it is computed again")

    monkeypatch.setattr("xgap_analysis.models.adapters.openclip.TextTower.encode", refuse)
    monkeypatch.setattr("xgap_analysis.models.adapters.openclip.ImageTower.encode", refuse)
    monkeypatch.setattr("xgap_analysis.views.inversion.loop", refuse)
    second = Study([model], [animals()], **asked).run()
    pd.testing.assert_frame_equal(first, second)
    assert {entry.key for entry in Store(tmp_path).entries()} == stored
    assert not any(entry.n_failed for entry in Store(tmp_path).entries())


def test_names_are_loaded_and_judged_on_the_split_and_the_limit(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "load_model", lambda name, **_: {"small": model}[name])
    monkeypatch.setattr(study_module, "load_dataset", lambda name: {"animals": animals("all")}[name])
    study = Study(["small"], ["animals"], ["I-I"], limit=3, progress=False)
    (evaluation,) = study.evaluations()
    assert evaluation.model is model
    assert evaluation.data.split_name == "test[3]"
    assert evaluation.fit_data is not None
    assert evaluation.fit_data.split_name == "train"
    assert set(study.run()["n_queries"]) == {3}


# The gap metrics


def test_queries_that_nothing_answers_are_counted_and_raise_no_warning(model: Model) -> None:
    data = animals(image_queries=())
    alone = data.images.select(i for i in data.images.ids if "/elk/" not in i or i.endswith("/0"))
    study = Study([model], [replace(data, images=alone)], ["I-I"], progress=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        rows = study.run()
    assert [str(w.message) for w in seen if "xgap_analysis" in w.filename] == []
    assert set(rows["n_unanswerable"]) == {1}
    assert set(rows["n_queries"]) == {len(alone) - 1}


@pytest.mark.usefixtures("world")
def test_the_gaps_are_those_of_each_image_with_the_first_caption_of_its_label(model: Model) -> None:
    study = Study([model], [animals()], ["I-I"], progress=False)
    (row,), evaluation = study.gaps().to_dict("records"), evaluation_of(study)
    assert (row["model"], row["dataset"], row["split"], row["label_set"]) == ("random-0", "animals", "test", "kind")
    images, texts = planted(evaluation, "image", "all"), planted(evaluation, "text", "all")
    named = texts.select(f"test/{i.split('/')[1]}/name" for i in images.ids[::4])
    pairs = torch.cat([named.vectors[k].expand(4, -1) for k in range(len(KINDS))])
    x, y = evaluation.pairs()
    assert (x.ids, y.ids, y.space) == (images.ids, images.ids, "text")
    assert torch.equal(x.vectors, images.vectors)
    assert torch.equal(y.vectors, pairs)
    expected = gap_report(images, Features(pairs, images.ids, "text", "text")).iloc[0]
    for column, value in expected.items():
        assert row[column] == pytest.approx(value), column
    for side, features in (("image", images), ("text", texts)):
        wrong, pairs_seen = 0.0, 0
        label = evaluation.data.labels["kind"]
        cosine = (features.vectors.double() @ features.vectors.double().T).numpy()
        for a, b, c in itertools.permutations(range(len(features)), 3):
            if label[features.ids[a]] == label[features.ids[b]] != label[features.ids[c]]:
                wrong += float(cosine[a, b] < cosine[a, c])
                pairs_seen += 1
        assert row[f"misalignment_{side}"] == pytest.approx(wrong / pairs_seen)
        assert 0 <= row[f"misalignment_{side}_pooled"] <= 1
    assert misalignment(images, images, evaluation.data)["misalignment"].mean() == row["misalignment_image"]
    assert any(name.startswith("hubness_") for name in row)


# Corrections, controls and what cannot be computed


@pytest.mark.usefixtures("world")
def test_a_users_correction_appears_in_the_table_with_its_options(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))

    @register_correction("rolled", claims={"I-I": -1})
    def rolled(calibration: Calibration, by: int = 1) -> FeatureMap:
        return lambda features: replace(features, vectors=features.vectors.roll(by, dims=1))

    monkeypatch.setattr("xgap_analysis.experiments.evaluation.calibration_for", planted_calibration)
    study = Study([model], [animals()], ["I-I", "OTI-I"], ["none", "rolled(by=3)", "center"], progress=False)
    main = main_rows(study.run()).set_index(["correction", "comparison"])
    assert list(main.index.get_level_values(0).unique()) == ["none", "rolled(by=3)", "center"]
    # Both sides turned alike: the same numbers, and a claim that they get worse finds no support.
    assert main.loc[("rolled(by=3)", "I-I"), "value"] == pytest.approx(main.loc[("none", "I-I"), "value"])
    assert main.loc[("rolled(by=3)", "I-I"), "claim"] == -1
    assert main.loc[("rolled(by=3)", "I-I"), "fitted_on"] == "train"
    assert main.loc[("none", "OTI-I"), "claim"] == 1
    tested = main["p_value"].notna()
    assert (main.loc[tested, "p_adjusted"] >= main.loc[tested, "p_value"]).all()
    assert main.loc[("none", "I-I")].isna()["p_adjusted"]


@pytest.mark.usefixtures("world")
def test_a_cell_that_cannot_be_computed_says_why_and_spares_the_others(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xgap_analysis.experiments.evaluation.calibration_for", planted_calibration)
    study = Study([model], [animals()], ["I-I"], ["none", "random-subspace(rank=99)"], progress=False)
    main = main_rows(study.run()).set_index("correction")
    assert main["note"].tolist() == ["", "the rank of a subspace lies between 1 and the 16 dimensions, not 99"]
    assert main["value"].isna().tolist() == [False, True]
    with pytest.raises(XgapError, match="the rank of a subspace"):
        Study([model], [animals()], ["I-I"], ["random-subspace(rank=99)"], progress=False).run()


@pytest.mark.usefixtures("world")
def test_an_evaluation_takes_the_seed_of_its_study(model: Model) -> None:
    evaluation = evaluation_of(Study([model], [animals()], ["I-I", "OTI-I"], seeds=(7, 8), progress=False))
    oti = COMPARISONS["OTI-I"]
    expected = expected_scores(evaluation, "OTI-I", 7)
    assert evaluation.scores(oti)["ap"].to_dict() == pytest.approx(expected)
    assert evaluation.scores(oti, seed=8)["ap"].to_dict() == pytest.approx(expected_scores(evaluation, "OTI-I", 8))


def test_the_views_and_inversions_of_an_evaluation_take_the_seed_of_its_study(model: Model) -> None:
    evaluation = evaluation_of(Study([model], [animals()], ["I-I", "OTI-I"], seeds=(7,), steps=1, progress=False))
    images = evaluation.view("image", "gallery")
    wanted = invert(model, images, steps=1, seed=7, progress=False).features.vectors
    assert torch.equal(evaluation.view("oti", "gallery").vectors, wanted)
    assert torch.equal(evaluation.inversion(images).features.vectors, wanted)


@pytest.mark.parametrize("changed", ["study", "data", "model"])
def test_a_copy_of_an_evaluation_keeps_nothing_of_what_the_first_computed(
    model: Model, other_model: Model, changed: str
) -> None:
    study = Study([model], [animals()], ["I-I"], ["none", "center"], progress=False)
    evaluation = evaluation_of(study)
    before = evaluation.table()
    other = {
        "study": {"study": replace(study, label_set="flies")},
        "data": {"data": animals().limit(3), "fit_data": animals("train").limit(3)},
        "model": {"model": other_model},
    }[changed]
    made = replace(evaluation, **other).table()
    afresh = Evaluation(
        **{"study": study, "model": model, "data": evaluation.data, "fit_data": evaluation.fit_data, **other}
    ).table()
    pd.testing.assert_frame_equal(made, afresh)
    assert made["value"].tolist() != before["value"].tolist()


@pytest.mark.usefixtures("world")
def test_an_evaluation_for_other_cells_keeps_what_was_computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = evaluation_of(Study([model], [animals()], ["I-I"], progress=False))
    evaluation.table()
    asked = []
    scores = Evaluation.scores
    monkeypatch.setattr(Evaluation, "scores", lambda self, c, *more: asked.append(c.name) or scores(self, c, *more))
    table = evaluation.with_cells(replace(evaluation.study, comparisons=["I-I", "I-T"])).table()
    assert asked == ["I-T"]
    assert list(main_rows(table)["comparison"]) == ["I-I", "I-T"]


@pytest.mark.usefixtures("world")
def test_a_correction_registered_anew_is_fitted_anew(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))
    evaluation = evaluation_of(Study([model], [animals()], ["I-I"], progress=False))
    native = evaluation.view("image", "queries")
    monkeypatch.setattr("xgap_analysis.experiments.evaluation.calibration_for", planted_calibration)

    def cell(sign: float) -> None:
        @register_correction("mine")
        def mine(calibration: Calibration) -> FeatureMap:
            return lambda f: replace(f, vectors=sign * f.vectors)

    cell(1.0)
    assert torch.equal(evaluation.fitted("mine")(native).vectors, native.vectors)
    with pytest.warns(UserWarning, match="replaced"):
        cell(-1.0)
    assert torch.equal(evaluation.fitted("mine")(native).vectors, -native.vectors)


@pytest.mark.usefixtures("world")
def test_the_ranking_of_a_query_is_that_of_the_scores(model: Model) -> None:
    evaluation = evaluation_of(Study([model], [animals()], progress=False))
    for name in ("I-I", "I-T", "zero-shot"):
        comparison = COMPARISONS[name]
        scores = evaluation.scores(comparison)
        for query in scores.index:
            found = evaluation.ranking(query, comparison, k=1)
            column = "correct_at_1" if name == "zero-shot" else "hit_at_1"
            assert float(found["hit"].iloc[0]) == scores.loc[query, column]


@pytest.mark.usefixtures("world")
def test_the_filtered_test_keeps_the_images_that_zero_shot_gets_right(model: Model) -> None:
    whole = evaluation_of(Study([model], [animals()], progress=False))
    right = top_one(planted(whole, "image", "all"), planted(whole, "text", "classes"), whole.data.labels["kind"])
    (evaluation,) = Study([model], [animals()], only="zero-shot-correct", progress=False).evaluations()
    assert evaluation.data.images.ids == tuple(i for i, ok in right.items() if ok)
    assert 0 < len(evaluation.data.images) < len(right)
    assert set(evaluation.data.image_queries) == set(evaluation.data.images.ids) & set(animals().image_queries)
    assert evaluation.data.split_name == "test, zero-shot-correct"
    with pytest.raises(XgapError, match="filter"):
        Study([model], [animals()], only="right")


def test_a_task_that_could_only_come_out_as_one_has_a_note_beside_its_value(model: Model) -> None:
    one = dict.fromkeys((*animals().images.ids, *animals().texts.ids), "cat")
    data = animals(labels={"kind": one}, class_names={"kind": {"cat": "the cat"}})
    with pytest.warns(UserWarning, match=r"every gallery item is relevant|there is one class only"):
        table = main_rows(Study([model], [data], ["I-I", "zero-shot"], progress=False).run())
    assert list(table["value"]) == [1, 1]
    assert table["note"].str.contains("1 whatever the features are").all()
    told = main_rows(Study([model], [animals()], ["I-I", "zero-shot"], progress=False).run())
    assert list(told["note"]) == ["", ""]
