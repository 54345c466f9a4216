"""Progress that is watched: it is told, it can be ended, and what is stored stays."""

import threading
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
import torch

from xgap_analysis.core import progress
from xgap_analysis.core.progress import Bar, Cancelled, report, watched, while_reporting
from xgap_analysis.store import Rows, Store, compute


def test_a_watched_bar_is_silent_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, int, int]] = []
    with watched(lambda *what: told.append(what)), Bar(total=10, desc="work", unit="item") as bar:
        bar.update(3)
        bar.update(4)
    assert told == [("work", 3, 10), ("work", 7, 10)]
    assert capsys.readouterr().err == ""


def test_in_a_log_file_long_work_writes_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 29.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Bar(total=10, desc="work", unit="item", initial=2) as bar:
        for _ in range(5):
            bar.update()
    assert capsys.readouterr().err == "work: 5 of 10\nwork: 7 of 10\n"
    report("nobody listens", 1, 2)


def test_on_a_terminal_a_bar_is_drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bar(total=10, desc="work", unit="item") as bar:
        bar.update(10)
    assert "work" in capsys.readouterr().err
    with Bar(total=10, desc="quiet", unit="item", disable=True) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_ended_work_keeps_its_finished_shards(tmp_path: Path) -> None:
    store, made = Store(tmp_path), list[list[int]]()

    def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
        made.append(list(places))
        return {"a": Rows({"x": torch.ones(len(places))})}

    def stop(what: str, done: int, total: int) -> None:
        if done >= 4:
            raise Cancelled

    job = {"shard_size": 2, "store": store, "description": "ones"}
    with watched(stop), pytest.raises(Cancelled):
        compute({"a": {}}, "abcdefgh", worker, **job)
    assert made == [[0, 1], [2, 3]]
    found = compute({"a": {}}, "abcdefgh", worker, **job, progress=False)
    assert made[2:] == [[4, 5], [6, 7]]
    assert len(found["a"].tensors["x"]) == 8


def test_a_call_that_reports_nothing_can_be_left_alone() -> None:
    here, go_on, ended = threading.current_thread(), threading.Event(), threading.Event()
    assert while_reporting("work", threading.current_thread) is here  # nobody watches

    def slow() -> None:
        go_on.wait(60)
        ended.set()

    def stop(what: str, done: int, total: int) -> None:
        if len(told) == 3:
            raise Cancelled
        told.append((what, done, total))

    told: list[tuple[str, int, int]] = []
    with watched(stop), pytest.raises(Cancelled):
        while_reporting("work", slow)
    assert told == [("work", 0, 1)] * 3
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(60)

    def fails() -> None:
        raise KeyError("nowhere")

    with watched(lambda *_: None), pytest.raises(KeyError, match="nowhere"):
        while_reporting("work", fails)
    with watched(lambda *_: None):
        assert while_reporting("work", lambda: 7) == 7
