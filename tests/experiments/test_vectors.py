"""Features without a model: the same numbers as a study with one, and any number of modalities."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.experiments.vectors import study_of_features, study_of_files


@pytest.fixture(scope="module")
def world() -> dict[str, xg.Features]:
    """Ten kinds of sounds, films and maps of depth, eight of each; odd items are for calibration."""
    draw = np.random.default_rng(0)
    centre = draw.normal(size=(10, 16))
    kinds = np.repeat(np.arange(10), 8)
    made = {}
    for space, shift in (("audio", 0.0), ("video", 1.0), ("depth", -1.0)):
        vectors = centre[kinds] + draw.normal(size=(80, 16)) + shift
        for part, rows in (("test", slice(0, None, 2)), ("train", slice(1, None, 2))):
            made[f"{space} {part}"] = xg.Features(vectors[rows], [str(i) for i in range(80)[rows]], space, space)
    return made


LABELS = {str(i): f"kind {i // 8}" for i in range(80)}


def test_it_says_what_a_study_with_the_model_says(model: Any) -> None:
    data = xg.load_dataset("emoji")
    judged, fitted = data.split("test").limit(6), data.split("train").limit(6)
    study = xg.Study([model], [judged], ["I-I", "T-T", "I-T", "T-I"], ["none", "center"], progress=False)
    evaluation = next(study.evaluations())
    evaluation.fit_data = fitted
    native = [xg.encode(model, part, progress=False) for part in (judged.images, judged.texts)]
    calibration = [xg.encode(model, part, progress=False) for part in (fitted.images, fitted.texts)]
    own = study_of_features(native, judged.labels_of(), None, ["none", "center"], calibration=calibration)
    mine, theirs = (xg.main_rows(t).set_index(["comparison", "correction"]) for t in (own.run(), evaluation.table()))
    # There, only the names among the texts ask: what texts ask may differ.
    cells = [(c, by) for c in ("I-I", "I-T") for by in ("none", "center")]
    columns = ["value", "low", "high", "difference", "p_value", "n_queries"]
    np.testing.assert_allclose(
        mine.loc[cells, columns].astype(float), theirs.loc[cells, columns].astype(float), atol=1e-6, equal_nan=True
    )
    assert mine.loc[("I-I", "none"), "model"] == model.name
    gaps, usual = own.gaps().iloc[0], evaluation.gaps().iloc[0]
    assert gaps["misalignment_image"] == pytest.approx(usual["misalignment_image"])


def test_two_modalities_of_ones_own(world: dict[str, xg.Features]) -> None:
    x, y = world["audio test"], world["video test"]
    study = study_of_features(
        [x, y], LABELS, corrections=["none", "center"], calibration=[world["audio train"], world["video train"]]
    )
    table = xg.main_rows(study.run()).set_index(["comparison", "correction"])
    relevance = xg.Relevance.from_labels(LABELS, LABELS)
    for name, (query, gallery) in {"audio-audio": (x, x), "video-audio": (y, x), "audio-video": (x, y)}.items():
        assert table.loc[(name, "none"), "value"] == pytest.approx(xg.retrieval(query, gallery, relevance)["ap"].mean())
    centred = [f.vectors - world[f"{f.space} train"].vectors.mean(0) for f in (y, x)]
    query, gallery = (xg.Features(v, f.ids, f.space, f.space) for v, f in zip(centred, (y, x), strict=True))
    found = table.loc[("video-audio", "center")]
    assert found["value"] == pytest.approx(xg.retrieval(query, gallery, relevance)["ap"].mean())
    assert (found["fitted_on"], found["transductive"], found["model"]) == ("calibration", False, "features")
    report = study.gaps().iloc[0]
    expected = xg.gap_report(x, y).iloc[0]
    assert report["modality_gap"] == expected["modality_gap"]
    assert (report["n"], report["rmg"]) == (40, expected["rmg"])
    assert report["misalignment_audio"] == pytest.approx(xg.misalignment(x, x, relevance)["misalignment"].mean())


def test_three_modalities_are_compared_in_every_pair_by_the_same_code(world: dict[str, xg.Features]) -> None:
    spaces = ("audio", "video", "depth")
    features = [world[f"{space} test"] for space in spaces]
    calibration = [world[f"{space} train"] for space in spaces]
    study = study_of_features(features, LABELS, corrections=["none", "center"], calibration=calibration)
    table = xg.main_rows(study.run()).set_index(["correction", "comparison"])
    relevance = xg.Relevance.from_labels(LABELS, LABELS)
    mean = {f.space: f.vectors.mean(0) for f in calibration}
    assert list(table.loc["none"].index) == [f"{x}-{y}" for x in spaces for y in spaces]
    for x in features:
        for y in features:
            name = f"{x.space}-{y.space}"
            centred = [xg.Features(f.vectors - mean[f.space], f.ids, f.space, f.origin) for f in (x, y)]
            for by, (query, gallery) in {"none": (x, y), "center": centred}.items():
                expected = xg.retrieval(query, gallery, relevance)["ap"].mean()
                assert table.loc[(by, name), "value"] == pytest.approx(expected), (by, name)
    assert set(table["n_gallery"]) == {40}
    assert set(table["note"]) == {""}
    pairs = study_of_features(features[1:])  # without labels: one item in several modalities
    two = study_of_features(features).run()
    for name in ("video-depth", "depth-video"):
        alone, among = (xg.main_rows(t).set_index("comparison").loc[name, "value"] for t in (pairs.run(), two))
        assert alone == among
    assert list(two["comparison"].unique()) == [f"{x}-{y}" for x in spaces for y in spaces if x != y]


def test_a_scorer_of_ones_own_needs_no_model_either(world: dict[str, xg.Features]) -> None:
    features = [world[f"{space} test"] for space in ("audio", "video")]

    def distance(query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(query, gallery, p=1)

    study = study_of_features(features, LABELS, ["audio-video"], scorers=["cosine", distance])
    table = xg.main_rows(study.run()).set_index("scorer")
    expected = xg.retrieval(*features, xg.Relevance.from_labels(LABELS, LABELS), scorer=distance)["ap"].mean()
    assert table.loc["distance", "value"] == pytest.approx(expected)
    assert table.loc["distance", "value"] != table.loc["cosine", "value"]


def test_pairs_are_by_id_and_never_by_row(world: dict[str, xg.Features]) -> None:
    x, y = world["audio test"], world["video test"]
    turned = y.select(reversed(y.ids))
    before, after = study_of_features([x, y]), study_of_features([x, turned])
    assert after.gaps()["alignment"].item() == pytest.approx(before.gaps()["alignment"].item())
    assert list(before.run()["comparison"].unique()) == [
        "audio-video",
        "video-audio",
    ]  # pairs ask nothing within a side
    ranks = xg.main_rows(before.run())["value"].tolist()
    assert xg.main_rows(after.run())["value"].tolist() == pytest.approx(ranks)
    cosine = (x.vectors @ y.vectors.T).double()
    rank = (cosine >= cosine.diagonal()[:, None]).sum(1)
    assert ranks[0] == pytest.approx(float((1 / rank).mean()))  # one item answers: its AP is 1 / rank
    strangers = xg.Features(y.vectors, [f"film {i}" for i in y.ids], "video", "video")
    report = study_of_features([x, strangers], {**LABELS, **{f"film {i}": LABELS[i] for i in y.ids}}).gaps()
    assert report[["rmg", "alignment", "cross_cosine"]].isna().all(axis=None)
    assert report["n"].item() == 0


def test_inverted_features_brought_along_are_measured_against_the_native_ones(world: dict[str, xg.Features]) -> None:
    images = xg.Features(world["audio test"].vectors, world["audio test"].ids, "image", "image")
    oti = xg.Features(world["video test"].vectors, images.ids, "text", "image")
    table = xg.main_rows(study_of_features([oti, images], LABELS).run()).set_index("comparison")
    assert list(table.index) == ["OTI-OTI", "OTI-I", "I-OTI", "I-I"]
    assert (table.loc["OTI-I", "baseline"], table.loc["OTI-I", "claim"]) == ("I-I", 1)
    assert table.loc["OTI-I", "difference"] == pytest.approx(table.loc["OTI-I", "value"] - table.loc["I-I", "value"])
    alone = xg.main_rows(study_of_features([oti, images], LABELS, ["OTI-I"]).run())
    assert alone["difference"].isna().all()


def test_files_of_one_origin_exclude_self_matches_across_the_modalities(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.normal(size=(12, 8))
    for name, vectors in (("images", images), ("oti", images + 0.01 * draw.normal(size=(12, 8)))):
        np.save(tmp_path / f"{name}.npy", vectors)
    labels = {str(i): f"kind {i % 6}" for i in range(12)}
    x = xg.load_features(tmp_path / "images.npy", space="image")
    y = xg.load_features(tmp_path / "oti.npy", space="text", origin="image")
    table = xg.main_rows(study_of_features([x, y], labels, ["OTI-I"]).run())
    named = [xg.Features(f.vectors, [f"photo {i}" for i in f.ids], f.space, f.origin) for f in (x, y)]
    wanted = study_of_features(named, {f"photo {i}": label for i, label in labels.items()}, ["OTI-I"]).run()
    assert table["value"].item() == pytest.approx(xg.main_rows(wanted)["value"].item())


def test_rows_that_are_paired_by_number_are_equally_many(tmp_path: Path) -> None:
    for name, n in (("a", 6), ("b", 5)):
        np.save(tmp_path / f"{name}.npy", np.eye(6)[:n])
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    a, b = (xg.load_features(file, space=file.stem) for file in files)
    with pytest.raises(xg.XgapError, match="a has 6 rows and b 5"):
        study_of_features([a, b])
    rows = "\n".join(f"k,{split}" for split in ("train", "test") * 3)
    (tmp_path / "labels.csv").write_text(f"label,split\n{rows}")  # what is left of each after the split is equally much
    with pytest.raises(xg.XgapError, match="a has 6 rows and b 5"):
        study_of_files(files, tmp_path / "labels.csv")
    named = xg.load_features(files[0], space="a", ids=range(6)), xg.load_features(files[1], space="b", ids=range(5))
    assert study_of_features(named).gaps()["n"].item() == 5  # who says what the rows are may leave some out


def test_corrections_that_need_a_model_or_a_calibration_say_so(world: dict[str, xg.Features]) -> None:
    x, y = world["audio test"], world["video test"]
    calibration = (world["audio train"], world["video train"])
    table = study_of_features([x, y], LABELS, ["audio-audio"], ["none", "isoclip"], calibration=calibration).run()
    notes = table.set_index("correction")["note"]
    assert notes["isoclip"] == "isoclip reads the projections of a model, and these features came without one"
    table = study_of_features([x, y], LABELS, ["audio-audio"], ["none", "center"]).run()
    assert "is fitted on the split" in table.set_index("correction")["note"]["center"]
    table = study_of_features([x, y], LABELS, ["audio-audio"], ["none", "center"], calibration=[x, y]).run()
    assert table.set_index("correction")["transductive"]["center"].all()  # the same vectors are judged


def test_what_cannot_be_compared_is_refused(world: dict[str, xg.Features]) -> None:
    x, y = world["audio test"], world["video test"]
    with pytest.raises(xg.XgapError, match="two of the features are of audio"):
        study_of_features([x, world["audio train"]])
    with pytest.raises(xg.XgapError, match="audio has 16 dimensions and video 2"):
        study_of_features([x, xg.Features(torch.eye(2), "ab", "video", "video")])
    with pytest.raises(xg.XgapError, match="unknown comparison 'audio-vide'; nearest names: audio-video"):
        study_of_features([x, y], comparisons=["audio-vide"])
    with pytest.raises(xg.XgapError, match="are of video, audio; give those of audio, video"):
        study_of_features([x, y], calibration=[y, x])
    with pytest.raises(xg.XgapError, match="two modalities or more, not 1"):
        study_of_features([x])


def test_two_files_and_a_table_of_labels(world: dict[str, xg.Features], tmp_path: Path) -> None:
    both = {s: np.zeros((80, 16), np.float32) for s in ("audio", "video", "depth")}
    for name, features in world.items():
        both[name.split()[0]][[int(i) for i in features.ids]] = features.vectors.numpy()
    for space, vectors in both.items():
        np.save(tmp_path / f"{space}.npy", vectors)
    rows = [f"{LABELS[str(i)]},{'training' if i % 2 else 'test'}" for i in range(80)]
    (tmp_path / "labels.csv").write_text("\n".join(["class,split", *rows]))
    files = [tmp_path / "audio.npy", tmp_path / "video.npy"]
    study = study_of_files(files, tmp_path / "labels.csv", corrections=["none", "center"])
    own = study_of_features(
        [world["audio test"], world["video test"]],
        LABELS,
        None,
        ["none", "center"],
        calibration=[world["audio train"], world["video train"]],
    )
    assert study.run()["value"].tolist() == pytest.approx(own.run()["value"].tolist(), abs=1e-6)
    assert list(study_of_files(files, spaces=["sound", "film"]).run()["comparison"].unique()) == [
        "sound-film",
        "film-sound",
    ]
    for name in ("audio (1)", "a=b, c"):
        np.save(tmp_path / f"{name}.npy", both["audio"])
    odd = study_of_files([tmp_path / "audio (1).npy", tmp_path / "a=b, c.npy"], tmp_path / "labels.csv").run()
    names = ("audio (1)", "a=b, c")
    assert list(odd["comparison"].unique()) == [f"{x}-{y}" for x in names for y in names]  # whatever files are called
    (tmp_path / "other.csv").write_text("id,label,split\nx,a,train\ny,b,test\n")
    with pytest.raises(xg.XgapError, match="no id of the audio features, such as '0', is of split 'train'"):
        study_of_files(files, tmp_path / "other.csv")
    with pytest.raises(xg.XgapError, match="two files or more, one for each modality"):
        study_of_files(files[:1])
    (tmp_path / "none.csv").write_text("id,colour\n1,red\n")
    with pytest.raises(xg.XgapError, match="has no column of labels; it has: id, colour"):
        study_of_files(files, tmp_path / "none.csv")


def test_vectors_without_a_label_are_no_class(world: dict[str, xg.Features], tmp_path: Path) -> None:
    x, y = world["audio test"], world["video test"]
    known = {i: LABELS[i] for i in x.ids if int(i) >= 16}
    expected = study_of_features([x, y], known).run()
    missing = {int(i): label for i, label in zip(x.ids, (None, np.nan, -1, "") * 2, strict=False)}
    with pytest.warns(UserWarning, match="8 of 40 labels are missing; these items belong to no class"):
        found = study_of_features([x, y], known | missing).run()  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(found, expected)
    assert set(found["n_queries"]) == {32}


def test_a_study_has_the_gap_of_every_pair_of_its_modalities() -> None:
    random = np.random.default_rng(0)
    labels = [k // 3 for k in range(30)]
    sets = {name: random.normal(size=(30, 6)) + move for name, move in (("image", 0.5), ("text", 0), ("audio", -0.5))}
    table = xg.study_of_features(sets, labels).gap_table()
    assert table.columns[:6].tolist() == ["model", "dataset", "split", "label_set", "x", "y"]
    found = table.set_index(["x", "y", "measure"])
    pairs = {(x, y) for x, y, _ in found.index}
    assert pairs == {("image", "text"), ("image", "audio"), ("text", "audio")}
    assert set(found["n_groups"]) == {10}
    expected = xg.gap_table(sets, groups=labels).set_index(["x", "y", "measure"])
    pd.testing.assert_frame_equal(found[expected.columns], expected)
    wide = xg.summary(table)
    row = found.loc[("image", "text", "rmg")]
    assert wide.loc["rmg", "image-text"] == f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def test_a_model_without_a_tower_for_a_modality_leaves_it_out() -> None:
    data = xg.load_dataset("emoji-spoken").split("test").limit(6)
    table = xg.Study(["tiny"], [data], progress=False).gap_table()
    assert set(zip(table["x"], table["y"], strict=True)) == {("image", "text")}
    whole = xg.Study(["tiny-audio"], [data], progress=False).gap_table()
    assert set(zip(whole["x"], whole["y"], strict=True)) == {("image", "text"), ("image", "audio"), ("text", "audio")}
