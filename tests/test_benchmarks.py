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
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    main(["--quick", "--models", "ViT-S-32", "--batches", "2", "--out", str(out), "--record", str(tmp_path)])
    rows = json.loads(out.read_text())["rows"]
    whole = {"encoding of images", "OTI of 1000 queries", "OVI of 1000 queries"}
    sets = {"late interaction", "rerank"}
    assert {"OTI step", "OVI step", "retrieval", "encoding", "fewer steps"} | sets | whole == {
        row["figure"] for row in rows
    }
    by_figure = {row["figure"]: row for row in rows}
    assert by_figure["OTI step"]["feature_difference"] < 1e-5
    assert by_figure["OVI step"]["feature_difference"] < 1e-5
    assert by_figure["OTI step"]["flops"] > 15  # operations, which no load changes
    assert by_figure["retrieval"]["metric_difference"] < 1e-6
    assert by_figure["encoding"]["feature_difference"] < 1e-5
    assert by_figure["OVI of 1000 queries"]["cosine_of_features_to_fp32"] > 0.99
    text = record.read_text()
    assert text.count("\n| ") == sum("ratio" in row or "way" in row for row in rows) + 5 + 3  # and three headers
    assert 'make bench BENCH_ARGS="--models ViT-S-32 --batches 2"' in text
    assert "| goal | met |" in text
