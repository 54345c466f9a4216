"""The benchmarks run and write what they say; no time is judged here."""

import json
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.bench
def test_a_quick_run_writes_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    from benchmarks.__main__ import main

    out, record = tmp_path / "bench.json", tmp_path / "benchmarks.md"
    main(["--quick", "--models", "ViT-S-32", "--batches", "2", "--out", str(out), "--record", str(record)])
    rows = json.loads(out.read_text())["rows"]
    assert {"OTI step", "OVI step", "retrieval", "encoding", "fewer steps"} == {row["figure"] for row in rows}
    by_figure = {row["figure"]: row for row in rows}
    assert by_figure["OTI step"]["feature_difference"] < 1e-5
    assert by_figure["OVI step"]["feature_difference"] < 1e-5
    assert by_figure["OTI step"]["flops"] > 15  # operations, which no load changes
    assert by_figure["retrieval"]["metric_difference"] < 1e-6
    assert by_figure["encoding"]["feature_difference"] < 1e-5
    text = record.read_text()
    assert text.count("\n| ") == 2 + 4 + 1 + sum("way" in row for row in rows) - 1
    assert "| goal | met |" in text
