"""Published trees through a study with the embedded model, and through the command line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import DATASETS, inventory
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.published.protocols import PROTOCOLS
from xgap_analysis.experiments.study import Study

from .conftest import BREEDS, karpathy, landmarks, nano, zhou


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    zhou(root / "oxford_pets", "split_zhou_OxfordPets.json", "images")
    landmarks(root)
    nano(root, scored=True)
    karpathy(root)
    return root


def main_of(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["main"]].set_index(["dataset", "comparison", "correction"])


def test_four_families_in_one_study(root: Path) -> None:
    names = ("oxford-pets", "roxford5k", "nano-scifact", "flickr30k")
    sets = [xg.load_dataset(name, root=root) for name in names]
    table = main_of(
        Study(["tiny"], sets, ["I-I", "T-T", "OTI-I", "zero-shot"], ["none", "isoclip"], steps=2, progress=False).run()
    )
    model = xg.load_model("tiny")
    for data in sets:
        for comparison, items, space in (("I-I", data.images, "image"), ("T-T", data.texts, "text")):
            row = table.loc[(data.name, comparison, "none")]
            if row["note"]:
                assert (data.name, comparison) in {
                    ("oxford-pets", "T-T"),  # one text a class
                    ("roxford5k", "T-T"),
                    ("nano-scifact", "I-I"),
                    ("flickr30k", "I-I"),  # no two images of one image
                }
                continue
            features = xg.encode(model, items, progress=False)
            query, gallery = features.select(data.queries(space)), features.select(data.gallery(space))
            official = "ap_trapezoid" if data.name == "roxford5k" else "ap"
            assert row["metric"] == official
            assert row["value"] == pytest.approx(xg.retrieval(query, gallery, data)[official].mean(), abs=1e-6)
            assert (row["n_queries"], row["n_gallery"]) == (len(query), len(gallery))
            corrected = table.loc[(data.name, comparison, "isoclip")]  # also where there is no split to be fitted on
            assert (corrected["fitted_on"], corrected["transductive"], corrected["note"]) == ("the model", False, "")
            assert np.isfinite(corrected["difference"])
    assert table.loc[("roxford5k", "OTI-I", "none"), "n_groups"] == 3
    shown = table.loc[("oxford-pets", "zero-shot", "none")]
    assert (shown["n_queries"], shown["n_gallery"]) == (6, 3)  # test images alone are classified


def test_zero_shot_alone_does_not_encode_the_gallery(root: Path) -> None:
    data = xg.load_dataset("oxford-pets", root)
    opened: list[str] = []

    def opener(item: str) -> object:
        opened.append(item)
        return data.images.opener(item)

    counted = xg.Images(data.images.ids, opener, data.images.digest)  # type: ignore[arg-type]
    watched = Dataset(**{**vars(data), "images": counted})
    Study(["tiny"], [watched], ["zero-shot"], progress=False).run()
    assert sorted(opened) == sorted(data.queries("image"))


def test_a_correction_fitted_on_the_searched_images_is_called_transductive(root: Path) -> None:
    data = xg.load_dataset("oxford-pets", root)
    said = {}
    for split in ("train", "val"):
        study = Study(["tiny"], [data], ["I-I", "zero-shot"], ["center"], fit_split=split, progress=False)
        table = main_of(study.run())
        said[split] = [bool(table.loc[("oxford-pets", c, "center"), "transductive"]) for c in ("I-I", "zero-shot")]
    # Train images are the gallery of I-I; the class texts are judged in zero-shot whatever the split.
    assert said == {"train": [True, True], "val": [False, True]}


def test_what_the_model_alone_gives_needs_no_split(root: Path) -> None:
    data = xg.load_dataset("roxford5k", root)
    asked = ["pca-text(words=imagenet, rank=8)", "random-subspace(rank=8)", "center"]
    table = main_of(Study(["tiny"], [data], ["I-I"], asked, progress=False).run())
    for name in asked[:2]:
        row = table.loc[("roxford5k", "I-I", name)]
        assert (row["fitted_on"], row["note"]) == ("the model", "")
        assert np.isfinite(row["value"])
    refused = table.loc[("roxford5k", "I-I", "center"), "note"]
    assert refused.startswith(
        "correction 'center' is fitted on the split 'train', which dataset 'roxford5k' does not have"
    )


def test_gaps_of_images_with_captions_of_their_own(root: Path, tmp_path: Path) -> None:
    karpathy(tmp_path, 12)
    row = Study(["tiny"], [xg.load_dataset("coco", tmp_path)], progress=False).gaps().iloc[0]
    assert np.isnan(row["misalignment_image"])  # no two images share a caption
    assert 0 <= row["misalignment_text"] <= 1
    landmarks_only = Study(["tiny"], [xg.load_dataset("roxford5k", root)], progress=False)
    with pytest.raises(XgapError, match="a gap lies between two modalities, and dataset 'roxford5k' has 1"):
        landmarks_only.gaps()


@pytest.fixture
def xgap(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    monkeypatch.setenv("XGAP_DATA", str(root))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_study_by_name_from_the_command_line(xgap: object, root: Path) -> None:
    asked = ("--models", "tiny", "--datasets", "oxford-pets", "roxford5k", "--comparisons", "I-I", "zero-shot")
    code, out, _ = xgap("study", *asked, "--out", "t.parquet")  # type: ignore[operator]
    assert code == 0
    assert "oxford-pets" in out
    by_name = main_of(pd.read_parquet("t.parquet"))
    by_hand = main_of(
        Study(["tiny"], [xg.load_dataset("oxford-pets", root)], ["I-I", "zero-shot"], progress=False).run()
    )
    for comparison in ("I-I", "zero-shot"):
        key = ("oxford-pets", comparison, "none")
        assert by_name.loc[key, "value"] == by_hand.loc[key, "value"]
    code, _, err = xgap("study", "--datasets", "sop")  # type: ignore[operator]
    assert code == 2
    assert "dataset 'sop' is not all there" in err
    assert "Stanford_Online_Products/Ebay_train.txt" in err


def test_the_listing_says_what_is_there_and_what_to_put_where(xgap: object, root: Path) -> None:
    code, out, _ = xgap("datasets", "--json")  # type: ignore[operator]
    rows = {row["dataset"]: row for row in json.loads(out)}
    assert code == 0
    assert set(rows) == {*DATASETS, *PROTOCOLS}
    assert {name for name, row in rows.items() if row["available"]} == {
        *DATASETS,
        *("oxford-pets", "roxford5k", "nano-scifact", "coco", "flickr30k"),
    }
    assert rows["oxford-pets"]["missing"] == {}
    assert rows["oxford-pets"]["folder"] == str(root / "oxford_pets")
    assert str(root / "food-101" / "images") in rows["food101"]["missing"]
    _, out, _ = xgap("datasets")  # type: ignore[operator]
    assert f"{root / 'food-101' / 'split_zhou_Food101.json'}: CoOp's split file" in out
    _, out, _ = xgap("datasets", "oxford-pets", "roxford5k", "--json")  # type: ignore[operator]
    splits = {(row["dataset"], row["split"]): row for row in json.loads(out)}
    assert splits["oxford-pets", "test"]["image_queries"] == 2 * len(BREEDS)
    assert splits["oxford-pets", "test"]["images"] == 4 * len(BREEDS)
    assert splits["roxford5k", "test"]["judgements"] == {"medium": 3, "easy": 3, "hard": 3}


def test_the_listing_reads_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "oxford_pets" / "images").mkdir(parents=True)
    (tmp_path / "oxford_pets" / "split_zhou_OxfordPets.json").write_text("no JSON")
    monkeypatch.setattr(Path, "read_text", lambda *_: pytest.fail("a file is read"))
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("a file is read"))
    rows = {row["dataset"]: row["available"] for row in inventory.datasets(tmp_path)}
    assert rows["oxford-pets"]
    assert not rows["dtd"]


def test_without_a_root_the_listing_shows_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XGAP_DATA", raising=False)
    rows = {row["dataset"]: row for row in inventory.datasets()}
    assert "$XGAP_DATA/dtd/images" in rows["dtd"]["missing"]
    assert rows["dtd"]["folder"] is None


def test_every_protocol_has_a_loader_and_a_prompt_with_a_place_for_the_name() -> None:
    from xgap_analysis.datasets.catalog import LOADERS

    assert {p.family for p in PROTOCOLS.values()} == set(LOADERS)
    assert all("{}" in p.prompt for p in PROTOCOLS.values())
    assert len(PROTOCOLS) == 28
