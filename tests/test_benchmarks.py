"""The benchmarks run and write what they say; no time is judged here."""

import json
import subprocess
import sys
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
    sets = {"late interaction", "rerank", "pooled misalignment", "resampling in a study"}
    assert {"OTI step", "OVI step", "retrieval", "encoding", "fewer steps"} | sets | whole == {
        row["figure"] for row in rows
    }
    by_figure = {row["figure"]: row for row in rows}
    assert by_figure["OTI step"]["feature_difference"] < 1e-5
    assert by_figure["OVI step"]["feature_difference"] < 1e-5
    assert by_figure["OTI step"]["flops"] > 15  # operations, which no load changes
    assert by_figure["retrieval"]["metric_difference"] < 1e-6
    assert by_figure["pooled misalignment"]["difference_of_a_sample"] < 0.02
    assert 0 < by_figure["resampling in a study"]["share_of_processor_time"] < 1
    assert by_figure["encoding"]["feature_difference"] < 1e-5
    assert by_figure["OVI of 1000 queries"]["cosine_of_features_to_fp32"] > 0.99
    text = record.read_text()
    assert text.count("\n| ") == sum("ratio" in row or "way" in row for row in rows) + 5 + 3  # and three headers
    assert 'make bench BENCH_ARGS="--models ViT-S-32 --batches 2"' in text
    assert "| goal | met |" in text


SMALL = """
import sys
from benchmarks import imagenet_scale
from xgap_analysis.metrics import half_wins, ranks
from xgap_analysis.scoring import blocks

for module in (imagenet_scale, ranks, blocks):
    module.BUDGET = 2**23
few = ["--queries", "40", "--dim", "256", "--classes", "50"]
imagenet_scale.main([*few, "--gallery", "500"])  # what is imported and compiled is no working memory
print("from here")
imagenet_scale.main([*few, "--gallery", "120000"])
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be counted from a moment on")
def test_a_gallery_on_disk_is_never_held_whole() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, check=True, cwd=root)
    rows = [json.loads(line) for line in done.stdout.partition("from here")[2].splitlines() if line]
    peaks = {row["metric"]: row["peak"] for row in rows}
    # In single precision the gallery takes 123 MB, and its files 61 MB, whose pages may count as resident.
    for metric in ("retrieval: mean AP", "misalignment: mean", "modality gap"):
        assert peaks[metric] < 110e6
    assert {row["bound"] for row in rows} == {2**23 * 3 // 2 + 4 * 40 * 256 + 300 * 120_000 + 2 * 120_000 * 256}
    values = {row["metric"]: row["value"] for row in rows}
    assert 0 < values["retrieval: mean AP"] < 1
    assert 0 < values["misalignment: mean"] < 0.5
    assert values["pooled misalignment, sampled"] < 0.5
