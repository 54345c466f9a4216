"""Inversion player, in the kernel."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.progress import Cancelled, watched
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.metrics import nearest_items
from xgap_analysis.widgets import InversionPlayer

STEPS = (0, 1, 3)


def test_everything_follows_the_step(evaluation: Evaluation) -> None:
    player = InversionPlayer(evaluation, STEPS, query="i4")
    assert player.error == ""
    assert player.steps == [0, 1, 3, 5]  # its end is added
    images = evaluation.view("image", "queries")
    inversion = evaluation.inversion(images, snapshots=player.steps)
    drawings = set()
    for step in player.steps:
        player._step.value = step
        snapshot = inversion.snapshots[step]
        cosine = float(snapshot.select(["i4"]).vectors[0] @ images.select(["i4"]).vectors[0])
        assert player.cosine == pytest.approx(cosine, abs=1e-6)
        assert player.loss == pytest.approx(1 - cosine, abs=1e-6)
        expected = nearest_items(snapshot, images, "i4", evaluation.data.relevance(), 8)
        shown = player.rankings[f"step {step}"].drop(columns="space")
        pd.testing.assert_frame_equal(shown, expected)
        assert f"step <b>{step}</b>" in player._about.value
        drawings.add(player._chart.value)
        place = player._journey.paths[player.steps.index(step), 4]  # type: ignore[union-attr]
        np.testing.assert_allclose(place, player._journey.plane.place(snapshot)[4])  # type: ignore[union-attr]
    assert len(drawings) == 4
    first = float(inversion.loss[0, images.ids.index("i4")])
    player._step.value = 0
    assert player.loss == pytest.approx(first, abs=1e-5)  # the loop's own first loss


def test_it_inverts_once(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    invert = evaluation.inversion
    monkeypatch.setattr(evaluation, "inversion", lambda *given: runs.append(given) or invert(*given))
    player = InversionPlayer(evaluation, STEPS)
    for step in player.steps:
        player._step.value = step
    player.choose("i7")
    player._pointed([2])
    assert player.query == "i2"
    assert len(runs) == 1


def test_a_drag_is_one_refresh(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    player = InversionPlayer(evaluation, STEPS)
    refreshed: list[int] = []
    monkeypatch.setattr(player, "refresh", lambda: refreshed.append(player.step))

    async def drag() -> None:
        for step in (0, 1, 3, 5, 3, 1):
            player._step.value = step
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)

    asyncio.run(drag())
    assert refreshed == [1]


def test_texts_are_inverted_too(evaluation: Evaluation, hostile: str, xgap_home: Path) -> None:
    player = InversionPlayer(evaluation, STEPS, modality="text", query="t0")
    assert player.error == ""
    assert player._journey.inversion.features.space == "image"  # type: ignore[union-attr]
    assert hostile not in player._about.value
    assert len(player.save()) == 4


def test_its_code_gives_the_same_neighbours(evaluation: Evaluation, run_code: Any) -> None:
    player = InversionPlayer(evaluation, STEPS, query="i4", k=5)
    player._step.value = 1
    made = run_code(player.code(), evaluation=evaluation)
    pd.testing.assert_frame_equal(made, player.rankings["step 1"].drop(columns="space"))


def test_cancel_ends_the_inversion_in_the_middle(evaluation: Evaluation) -> None:
    told: list[tuple[str, int, int]] = []

    def watcher(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if "OTI" in what and done:
            raise Cancelled

    images = evaluation.view("image", "queries")
    with watched(watcher), pytest.raises(Cancelled):
        evaluation.inversion(images)
    assert told[-1] == ("OTI with random-0", 12, 60)  # after one of five steps of twelve items
    player = InversionPlayer(evaluation, STEPS)
    player.show_error(Cancelled())
    assert player.error.startswith("Cancelled")


def test_mistakes_are_one_sentence(evaluation: Evaluation) -> None:
    with pytest.raises(xg.XgapError, match='modality is "image"'):
        InversionPlayer(evaluation, STEPS, modality="audio")
    player = InversionPlayer(evaluation, STEPS, query="nobody")
    assert "nobody" in player.error
    assert "fault of the widget" not in player.error
