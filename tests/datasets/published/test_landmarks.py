"""ROxford and RParis: cropped queries, the three protocols, and numbers equal to the published evaluation's."""

import pickle
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.metrics import revisited
from xgap_analysis.models import Model

from .conftest import ASKED, LANDMARKS, landmarks


@pytest.fixture(scope="module")
def truth_and_root(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    root = tmp_path_factory.mktemp("landmarks")
    return landmarks(root), root


@pytest.fixture
def data(truth_and_root: tuple[dict[str, Any], Path]) -> Dataset:
    return load_dataset("roxford5k", truth_and_root[1])


def published_map(ranks: np.ndarray, gnd: Sequence[dict[str, list[int]]], kappas: Sequence[int]) -> tuple[float, Any]:
    """The protocol as its authors describe it, on places: mean AP (trapezoids) and mP@k; ranks `[n, n_queries]`."""
    aps, precisions = [], []
    for column, answers in zip(ranks.T, gnd, strict=True):
        if not answers["ok"]:
            continue
        kept = [place for place in column if place not in set(answers["junk"])]  # junk is as if it were not there
        at = sorted(kept.index(i) for i in answers["ok"])
        area = 0.0
        for nth, rank in enumerate(at):
            before = 1.0 if rank == 0 else nth / rank
            area += (before + (nth + 1) / (rank + 1)) / 2 / len(at)
        aps.append(area)
        upto = [min(max(at) + 1, k) for k in kappas]
        precisions.append([sum(rank < k for rank in at) / k for k in upto])
    return float(np.mean(aps)), np.mean(precisions, axis=0)


def features(data: Dataset, seed: int) -> tuple[Features, Features]:
    rng = np.random.default_rng(seed)
    query = Features(rng.normal(size=(len(ASKED), 6)), data.queries("image"), "image", "image")
    return query, Features(rng.normal(size=(len(LANDMARKS), 6)), data.gallery("image"), "image", "image")


def test_queries_are_apart_from_the_gallery(data: Dataset) -> None:
    assert data.queries("image") == tuple(f"query/{name}" for name in ASKED)
    assert data.gallery("image") == tuple(LANDMARKS)
    assert tuple(data.judgements) == ("medium", "easy", "hard")
    assert data.default_label_set == "medium"
    assert tuple(data.splits) == ("test",)


def test_queries_are_cropped_to_their_box_and_the_gallery_is_whole(data: Dataset, truth_and_root: Any) -> None:
    truth, root = truth_and_root
    for name, entry in zip(ASKED, truth["gnd"], strict=True):
        with Image.open(root / "roxford5k" / "jpg" / f"{name}.jpg") as image:
            expected = image.convert("RGB").crop(entry["bbx"])
        shown = data.images.opener(f"query/{name}")
        assert shown.size == expected.size != (24, 20)
        assert shown.tobytes() == expected.tobytes()
    assert data.images.opener(LANDMARKS[0]).size == (24, 20)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_equal_the_published_protocol(data: Dataset, truth_and_root: Any, seed: int) -> None:
    truth = truth_and_root[0]
    query, gallery = features(data, seed)
    ranks = np.argsort(-(gallery.vectors @ query.vectors.T).numpy(), axis=0, kind="stable")
    easy, medium, hard = ([{**e} for e in truth["gnd"]] for _ in range(3))
    for e, m, h, g in zip(easy, medium, hard, truth["gnd"], strict=True):
        e["ok"], e["junk"] = g["easy"], [*g["junk"], *g["hard"]]
        m["ok"], m["junk"] = [*g["easy"], *g["hard"]], g["junk"]
        h["ok"], h["junk"] = g["hard"], [*g["junk"], *g["easy"]]
    for label_set, gnd in (("easy", easy), ("medium", medium), ("hard", hard)):
        mean_ap, at_k = published_map(ranks, gnd, (1, 5, 10))
        ours = xg.retrieval(query, gallery, data.relevance(label_set))
        assert ours["ap_trapezoid"].mean() == pytest.approx(mean_ap)
        assert ours["mp_at_10"].mean() == pytest.approx(at_k[2])
        assert ours["hit_at_1"].mean() == pytest.approx(at_k[0])
    by_default = xg.retrieval(query, gallery, data)
    assert by_default["ap_trapezoid"].equals(xg.retrieval(query, gallery, data.relevance("medium"))["ap_trapezoid"])


def test_levels_equal_the_revisited_metric(data: Dataset, truth_and_root: Any) -> None:
    query, gallery = features(data, 9)
    kinds = [
        {
            f"query/{name}": [LANDMARKS[i] for i in e[kind]]
            for name, e in zip(ASKED, truth_and_root[0]["gnd"], strict=True)
        }
        for kind in ("easy", "hard", "junk")
    ]
    frame = revisited(query, gallery, *kinds)
    for label_set in data.judgements:
        own = xg.retrieval(query, gallery, data.relevance(label_set))
        assert frame[label_set].equals(own[frame[label_set].columns])


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_any_form_of_the_published_pickle_gives_the_same(
    data: Dataset, arrays: bool, protocol: int, tmp_path: Path
) -> None:
    landmarks(tmp_path, "rparis6k", protocol, arrays)
    paris = load_dataset("rparis6k", tmp_path)
    assert paris.name == "rparis6k"
    assert paris.judgements == data.judgements
    assert paris.images.digest == data.images.digest


def test_the_digest_knows_the_boxes(data: Dataset, truth_and_root: Any, tmp_path: Path) -> None:
    truth, root = truth_and_root
    shutil.copytree(root / "roxford5k", tmp_path / "roxford5k")
    assert load_dataset("roxford5k", tmp_path).images.digest == data.images.digest
    moved = {**truth, "gnd": [{**truth["gnd"][0], "bbx": [1.0, 1.0, 9.0, 9.0]}, *truth["gnd"][1:]]}
    (tmp_path / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(moved, 2))
    assert load_dataset("roxford5k", tmp_path).images.digest != data.images.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("gnd"), "gnd is no list of one entry a query"),
        (lambda t: t.update(imlist=[]), "imlist is no list of names"),
        (lambda t: t.update(imlist=[1, 2]), "imlist is no list of names"),
        (lambda t: t["imlist"].append(LANDMARKS[0]), "imlist lists a name twice"),
        (lambda t: t["qimlist"].pop(), "gnd is no list of one entry a query"),
        (lambda t: t["gnd"][1].pop("bbx"), r"query 'ashmolean_000002' has no box \(bbx\) of four numbers"),
        (lambda t: t["gnd"][0].update(bbx=[5, 5, 5, 9]), "the box of query 'radcliffe_000001' is empty"),
        (
            lambda t: t["gnd"][2]["hard"].append(12),
            "hard of query 'christ_church_000003' is no list of places in imlist",
        ),
        (lambda t: t["gnd"][2].update(junk=["x"]), "junk of query 'christ_church_000003' is no list of places"),
        (lambda t: t["imlist"].append("gone_000001"), r"1 of 16 images .* are missing: put there .*gone_000001\.jpg"),
        (lambda t: t["imlist"].append("../x"), "which is not a path under"),
    ],
)
def test_a_damaged_ground_truth(change: Any, said: str, tmp_path: Path) -> None:
    truth = landmarks(tmp_path)
    change(truth)
    (tmp_path / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth, 2))
    with pytest.raises(XgapError, match=said):
        load_dataset("roxford5k", tmp_path)


def test_a_malicious_ground_truth_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    landmarks(tmp_path)
    trace = tmp_path / "trace"
    evil = f"cos\nsystem\n(S'touch {trace}'\ntR.".encode()
    (tmp_path / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(evil)
    with pytest.raises(XgapError, match=r"gnd_roxford5k\.pkl is refused: it names os\.system, and only plain data"):
        load_dataset("roxford5k", tmp_path)
    assert not trace.exists()


def test_a_limit_keeps_some_queries_and_the_whole_gallery(data: Dataset) -> None:
    small = data.limit(2)
    assert len(small.queries("image")) == 2
    assert set(small.queries("image")) <= set(data.queries("image"))
    assert small.gallery("image") == data.gallery("image")
    assert small.split_name == "test[2]"
    assert data.limit(3).split_name == "test"


def test_what_needs_labels_says_so(data: Dataset) -> None:
    assert data.labels_of() == {}
    with pytest.raises(XgapError, match="'roxford5k' has no labels 'class'; it has: medium, easy, hard"):
        data.relevance("class")
    with pytest.raises(XgapError, match="label set 'medium' of dataset 'roxford5k' gives relevance item by item"):
        data.shuffled()
    with pytest.raises(XgapError, match="names no classes of label set 'medium'"):
        data.words_of()


def test_a_study_judges_each_level(data: Dataset, model: Model) -> None:
    rows = {}
    for label_set in ("medium", "easy", "hard"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            study = xg.Study([model], [data], ["I-I", "T-T", "zero-shot"], label_set=label_set, progress=False)
            table = study.run()
        main = table[table["main"]].set_index("comparison")
        assert "has no texts" in main.loc["T-T", "note"]
        assert "names no classes" in main.loc["zero-shot", "note"]
        images = xg.encode(model, data.images, progress=False)
        query, gallery = images.select(data.queries("image")), images.select(data.gallery("image"))
        expected = xg.retrieval(query, gallery, data.relevance(label_set))
        row = main.loc["I-I"]
        assert row["metric"] == "ap_trapezoid"
        assert row["value"] == pytest.approx(expected["ap_trapezoid"].mean())
        assert (row["n_queries"], row["n_gallery"], row["n_groups"]) == (3, 12, 3)  # each query is its own group
        rows[label_set] = row["value"]
        shown = table[(table["comparison"] == "I-I") & (table["metric"] == "ap")]
        assert shown["value"].item() == pytest.approx(expected["ap"].mean())
    assert len(set(rows.values())) == 3
    assert torch.isfinite(images.vectors).all()
