"""Gap map, in the kernel."""

import asyncio
import dataclasses
import threading
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.plots import maps
from xgap_analysis.widgets import GapMap


def click(gapmap: GapMap, index: int) -> None:
    """What the plot's own script does at a click on a point."""
    assert gapmap._map is not None
    gapmap._map._plot.selection = np.array([index], dtype="uint32")


def test_the_numbers_follow_the_slider(evaluation: Evaluation) -> None:
    gapmap = GapMap(evaluation)
    assert gapmap.error == ""
    images, texts, classes = (evaluation.view(*of) for of in (("image", "all"), ("text", "all"), ("text", "classes")))
    assert gapmap.numbers["modality_gap"] == pytest.approx(evaluation.gaps()["modality_gap"].item())
    comparisons = ["I-T", "T-I", "zero-shot"]
    rows = xg.main_rows(xg.Study([evaluation.model], [evaluation.data], comparisons, progress=False).run()).set_index(
        "comparison"
    )
    names = {"ap_image_to_text": "I-T", "ap_text_to_image": "T-I", "zero_shot_top1": "zero-shot"}
    for name, comparison in names.items():
        assert gapmap.numbers[name] == pytest.approx(rows.loc[comparison, "value"])
    gapmap._controls.shift.value = 0.3
    shift = xg.correction("gap-shift", lambda_=0.3).fit(xg.Calibration({"image": images, "text": texts}, "test"))
    assert gapmap.numbers["modality_gap"] == pytest.approx(
        xg.metrics.modality_gap(*evaluation.pairs(shift(images), shift(texts)))
    )
    accuracy = xg.zero_shot(shift(images), shift(classes), evaluation.labels)["correct_at_1"].mean()
    assert gapmap.numbers["zero_shot_top1"] == pytest.approx(accuracy)
    ap = xg.retrieval(shift(images), shift(texts), evaluation.data)["ap"].mean()
    assert gapmap.numbers["ap_image_to_text"] == pytest.approx(ap)
    assert "λ = 0.3" in gapmap._table.value


def test_a_selection_joins_pairs_and_computes_nothing_anew(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    gapmap = GapMap(evaluation)
    for name in ("gap_numbers", "plane_map", "move_modalities"):
        monkeypatch.setattr(f"xgap_analysis.plots.maps.{name}", None)  # a call would fail
    click(gapmap, 3)
    assert gapmap.error == ""
    assert gapmap.selected == [("image", "i3")]
    pairs = {gapmap._scene.item(other) for other in gapmap._scene.partners(3)}
    assert pairs == {("text", "t3"), ("text", "t9")}
    strokes = gapmap._map._scatter.annotations()["annotations"]  # type: ignore[union-attr]
    assert len(strokes) == 2
    click(gapmap, 12 + 9)
    assert gapmap.selected == [("text", "t9")]
    assert {gapmap._scene.item(other) for other in gapmap._scene.partners(21)} == {("image", "i3"), ("image", "i9")}


def test_it_is_fitted_once(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[str] = []
    fit = maps._fit
    monkeypatch.setattr(maps, "_fit", lambda *given: fits.append(given[1]) or fit(*given))
    monkeypatch.setattr(maps, "_KEPT", type(maps._KEPT)())
    gapmap = GapMap(evaluation)
    for lambda_ in (0.1, 0.5, 1.0, 0.0):
        gapmap._controls.shift.value = lambda_
    click(gapmap, 5)
    GapMap(evaluation)
    assert fits == ["gap"]


def test_the_points_move_with_the_modalities(evaluation: Evaluation) -> None:
    gapmap = GapMap(evaluation)
    gapmap._controls.shift.value = 0.5
    sides = evaluation.view("image", "all"), evaluation.view("text", "all")
    plane = maps.plane_map(*sides, method="gap")
    expected = np.concatenate([plane.place(side) for side in maps.move_modalities(0.5, *sides)])
    np.testing.assert_allclose(gapmap.table()[["x", "y"]].to_numpy(), expected)


def test_moved_points_do_not_wait_for_the_numbers(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, go_on, counted = maps.gap_numbers, threading.Event(), list[float]()

    def slow(*given: Any) -> dict[str, float]:
        assert go_on.wait(60)
        numbers = compute(*given)
        counted.append(numbers["modality_gap"])
        return numbers

    async def cell() -> None:
        gapmap = GapMap(evaluation)
        go_on.set()
        await until(lambda: "modality gap" in gapmap._table.value)
        go_on.clear()
        for lambda_ in (0.2, 0.5):  # the numbers of the first are not computed
            gapmap._controls.shift.value = lambda_
            await until(lambda lambda_=lambda_: gapmap._scene.lambda_ == lambda_)
        assert "…" in gapmap._table.value
        assert "λ = 0.5" in gapmap._table.value
        go_on.set()
        await until(lambda: "…" not in gapmap._table.value)
        assert f"<b>{gapmap.numbers['modality_gap']:.3f}</b>" in gapmap._table.value

    monkeypatch.setattr(maps, "gap_numbers", slow)
    asyncio.run(cell())
    assert len(counted) >= 2  # a busy machine may have begun with those between


def test_the_pointer_finds_moved_points_at_their_new_place(evaluation: Evaluation) -> None:
    """jupyter-scatter keeps the index by which the mouse finds points where the last change was one of colour."""
    gapmap = GapMap(evaluation)
    plot = gapmap._map._plot  # type: ignore[union-attr]
    gapmap._controls.shift.value = 0.5
    assert plot.non_spatial_points_update is False


def test_the_slider_closes_the_gap_that_the_plane_shows(evaluation: Evaluation) -> None:
    gapmap = GapMap(evaluation)
    assert gapmap.name().endswith("-gap-lambda=0")

    def apart() -> float:
        places = gapmap.table().groupby("space")["x"].mean()
        return float(places["image"] - places["text"])

    native = evaluation.view("image", "all").vectors.mean(0) - evaluation.view("text", "all").vectors.mean(0)
    assert apart() == pytest.approx(float(native.norm()), abs=1e-5)
    assert "along the gap" in gapmap._axes.value
    gapmap._controls.shift.value = 0.3
    nearer = apart()
    assert 0 < nearer < float(native.norm())
    gapmap._controls.shift.value = 0.5
    assert abs(apart()) < nearer / 2
    figure = gapmap.figure()
    assert figure.axes[0].get_xlabel() == "along the gap: texts to images"
    plt.close(figure)


def test_umap_is_cancelled_at_once_and_the_controls_say_what_is_on_screen(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, go_on, fits, fit = threading.Event(), threading.Event(), list[str](), maps._fit

    def slow(modalities: Any, method: str) -> maps.PlaneMap:
        fits.append(method)
        if method == "umap":
            go_on.wait(60)
            fitted.set()
        return dataclasses.replace(fit(modalities, "gap"), method=method)

    monkeypatch.setattr(maps, "_fit", slow)
    monkeypatch.setattr(maps, "_KEPT", type(maps._KEPT)())

    async def cell() -> None:
        gapmap = GapMap(evaluation)
        await until(lambda: gapmap._scene is not None)
        gapmap._controls.method.value = "umap"
        await until(lambda: "umap" in fits and gapmap._jobs.running)
        gapmap._jobs._cancel.click()
        await until(lambda: not gapmap._jobs.running)
        assert not fitted.is_set()  # the fit has not ended, nobody waits for it
        assert gapmap.error.startswith("Cancelled")
        assert gapmap._controls.method.value == "gap"
        await asyncio.sleep(0.3)
        assert gapmap.error.startswith("Cancelled")  # going back to what is on screen is no new work
        await until(lambda: "modality gap" in gapmap._table.value)  # whose numbers may have been left
        assert "modality gap" in gapmap._table.value
        go_on.set()
        gapmap._controls.method.value = "umap"
        await until(lambda: gapmap._scene is not None and gapmap._scene.plane.method == "umap")
        assert gapmap.error == ""

    asyncio.run(cell())
    assert fits == ["gap", "umap"]  # the fit that was left alone is used


async def until(done: Any) -> None:
    """Waits for something to become true."""
    for _ in range(3000):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became true")


def test_colours_by_modality_class_and_similarity(evaluation: Evaluation) -> None:
    gapmap = GapMap(evaluation, colour="kind")
    assert "red" in gapmap._map._legend.value  # type: ignore[union-attr]
    gapmap._controls.colour.value = "similarity"
    assert gapmap.error == ""
    assert gapmap.selected == [("image", "i0")]
    click(gapmap, 4)
    similarity = gapmap._scene.similarity(4)
    images, texts = evaluation.view("image", "all"), evaluation.view("text", "all")
    both = np.concatenate([images.vectors.numpy(), texts.vectors.numpy()])
    np.testing.assert_allclose(similarity, both @ both[4], atol=1e-6)
    assert "cosine to i4" in gapmap._map._legend.value  # type: ignore[union-attr]


def test_the_pointer_and_the_list_say_what_a_point_is(evaluation: Evaluation, hostile: str) -> None:
    gapmap = GapMap(evaluation)
    plot = gapmap._map._plot  # type: ignore[union-attr]
    plot.hovering = 2
    assert "<b>image</b> i2" in gapmap._about.value
    assert "data:image/png;base64," in gapmap._about.value
    plot.hovering = 12
    assert hostile not in gapmap._about.value
    assert "&lt;img src=x" in gapmap._about.value
    gapmap._finder.field.value = "number 7"
    found = dict(gapmap._finder.entries.options)
    gapmap._finder.entries.value = (found["text: a green thing number 7"],)
    assert gapmap.selected == [("text", "t7")]
    assert gapmap._map._plot.selection.tolist() == [19]  # type: ignore[union-attr]
    gapmap.select("image", "i1")
    assert gapmap.selected == [("image", "i1")]
    assert set(gapmap._finder.entries.value) <= {1}  # the old mark is gone


def test_the_list_selects_several_and_marks_what_the_lasso_selects(evaluation: Evaluation) -> None:
    gapmap = GapMap(evaluation)
    plot, entries = gapmap._map._plot, gapmap._finder.entries  # type: ignore[union-attr]
    entries.value = (None, 12, 13)  # as Shift and the arrow keys extend it, from the entry that chooses nothing
    assert gapmap.selected == [("text", "t0"), ("text", "t1")]
    assert plot.selection.tolist() == [12, 13]
    assert "2 texts" in gapmap._about.value
    plot.selection = np.array([3, 5, 12 + 9], dtype="uint32")
    assert set(entries.value) == {3, 5, 21}
    assert gapmap.selected == [("image", "i3"), ("image", "i5"), ("text", "t9")]
    gapmap._finder.field.value = "number 9"  # another list: what is selected stays, and is marked where it is listed
    assert set(entries.value) == {3, 21}  # t9, and i3, which it is a caption of
    assert len(gapmap.selected) == 3
    plot.selection = np.array([], dtype="uint32")
    assert entries.value == ()


def test_its_code_gives_the_same_numbers(evaluation: Evaluation, run_code: Any) -> None:
    gapmap = GapMap(evaluation, lambda_=0.4)
    numbers = run_code(gapmap.code(), evaluation=evaluation)
    assert numbers == pytest.approx(dict(gapmap.numbers))


def test_save_writes_the_places(evaluation: Evaluation, xgap_home: Path) -> None:
    gapmap = GapMap(evaluation, colour="similarity")
    click(gapmap, 4)
    paths = gapmap.save()
    assert all(path.stat().st_size for path in paths)
    assert paths[0].parent == xgap_home / "results"
    table = pd.read_parquet(paths[2])
    assert table["item"].tolist() == [*evaluation.data.images.ids, *evaluation.data.texts.ids]


def test_mistakes_are_one_sentence(evaluation: Evaluation) -> None:
    with pytest.raises(xg.XgapError, match="unknown map 'tsne'"):
        GapMap(evaluation, method="tsne")
    with pytest.raises(xg.XgapError, match="unknown colour 'group'"):
        GapMap(evaluation, colour="group")
    with pytest.raises(xg.XgapError, match="lambda_ lies between"):
        GapMap(evaluation, lambda_=3)
    with pytest.raises(xg.XgapError, match="no image of id 'nobody'"):
        GapMap(evaluation).select("image", "nobody")


def test_a_dataset_without_texts_is_said_in_place(model: Any, make_dataset: Any) -> None:
    data = dataclasses.replace(make_dataset(), texts=xg.Texts([], []))
    (evaluation,) = xg.Study([model], [data], ["I-I"], progress=False).evaluations()
    gapmap = GapMap(evaluation)
    assert "has no texts" in gapmap.error
    gapmap._save_button.click()
    assert "still being made" in gapmap.error


def test_a_lasso_shows_and_marks_what_it_selects(evaluation: Evaluation, hostile: str) -> None:
    gapmap = GapMap(evaluation)
    plot = gapmap._map._plot  # type: ignore[union-attr]
    chosen = [3, 5, 12, 12 + 9]
    plot.selection = np.array(chosen, dtype="uint32")
    assert gapmap.error == ""
    assert gapmap.selected == [("image", "i3"), ("image", "i5"), ("text", "t0"), ("text", "t9")]
    assert plot.selection.tolist() == chosen
    shown = gapmap._about.value
    assert "2 images, 2 texts" in shown
    assert shown.count("data:image/png;base64,") == 2
    assert "number 9" in shown
    assert hostile not in shown
    table = gapmap.table()
    assert table.index[table["selected"]].tolist() == chosen
    pairs = {frozenset(pair) for a in chosen for b in gapmap._scene.partners(a) for pair in [(a, b)]}  # type: ignore[union-attr]
    assert len(gapmap._map._scatter.annotations()["annotations"]) == len(pairs)  # type: ignore[union-attr]
    plot.hovering = 1
    assert "<b>image</b> i1" in gapmap._about.value
    plot.hovering = None
    assert "2 images, 2 texts" in gapmap._about.value
    plot.selection = np.arange(24, dtype="uint32")
    assert "and 12 more" in gapmap._about.value
    plot.selection = np.array([], dtype="uint32")
    assert gapmap.selected == []
    assert "lasso" in gapmap._about.value


def test_a_lasso_of_thousands_looks_up_as_many_partners_as_lines_are_drawn(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xgap_analysis.widgets import scene
    from xgap_analysis.widgets.scene import Scene

    gapmap, looked_up, partners = GapMap(evaluation), list[int](), Scene.partners
    monkeypatch.setattr(Scene, "partners", lambda self, index: looked_up.append(index) or partners(self, index))
    monkeypatch.setattr(scene, "MOST_LINES", 5)
    gapmap._map._plot.selection = np.arange(24, dtype="uint32")  # type: ignore[union-attr]
    assert looked_up == [0, 1, 2]  # two lines each
    assert len(gapmap._map._scatter.annotations()["annotations"]) == 5  # type: ignore[union-attr]


def test_points_without_a_class_are_small(evaluation: Evaluation) -> None:
    data = evaluation.data
    artist = {item: "one" if int(item[1:]) < 6 else "two" for item in data.images.ids}  # texts have no artist
    (of_artists,) = xg.Study(
        [evaluation.model],
        [dataclasses.replace(data, labels={**data.labels, "artist": artist}, class_names={})],
        ["I-I"],
        label_set="kind",
        progress=False,
    ).evaluations()
    gapmap = GapMap(of_artists, colour="artist")
    assert gapmap.error == ""

    def sizes() -> list[float]:
        size = gapmap._map._scatter.size()  # type: ignore[union-attr]
        steps = gapmap._map._steps  # type: ignore[union-attr]
        return [size["map"][int(step)] for step in steps]

    assert sizes() == [5] * 12 + [2] * 12
    gapmap._controls.colour.value = "modality"
    assert sizes() == [5] * 12 + [9] * 12
    gapmap._controls.colour.value = "kind"
    assert sizes() == [5] * 12 + [9] * 12
