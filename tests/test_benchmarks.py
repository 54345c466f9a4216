"""The benchmarks run and write what they say; no time is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.bench
def test_a_dry_run_of_every_part_writes_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.__main__ import main

    out, record = tmp_path / "bench.json", tmp_path / "benchmarks.md"
    options = ["--device", "cpu", "--dry-run", "--models", "ViT-S-32", "--batches", "2"]
    main([*options, "--out", str(out), "--record", str(tmp_path)])
    found = json.loads(out.read_text())
    rows = found["rows"]
    assert found["left_out"] == []
    steps = {f"{name} step" for name in ("OTI", "OVI")}
    whole = {f"{name} of 1000 queries, {precision}" for name in ("OTI", "OVI") for precision in ("fp32", "bf16")}
    halves = {f"{name}, {precision} in the loop" for name in ("OTI", "OVI") for precision in ("bf16", "fp16")}
    others = {"model alone", "retrieval", "encoding", "plateau stop", "late interaction", "rerank", "fewer steps"}
    others |= {"pooled misalignment", "resampling in a study"}
    assert steps | whole | halves | others <= {row["figure"] for row in rows}
    by_figure = {row["figure"]: row for row in rows}
    assert by_figure["OTI step"]["feature_difference"] < 1e-5
    assert by_figure["OVI step"]["feature_difference"] < 1e-5
    assert by_figure["OTI step"]["flops"] > 15  # operations, which no load changes
    assert by_figure["retrieval"]["metric_difference"] < 1e-6
    assert by_figure["retrieval"]["bare_product_seconds"] > 0
    assert by_figure["pooled misalignment"]["difference_of_a_sample"] < 0.02
    assert 0 < by_figure["resampling in a study"]["share_of_processor_time"] < 1
    assert by_figure["encoding"]["feature_difference"] < 1e-5
    assert by_figure["model alone"]["cosine_of_features"] > 0.999
    assert by_figure["OVI of 1000 queries, fp32"]["cosine_of_features_to_fp32"] > 0.9999
    assert by_figure["OVI of 1000 queries, bf16"]["cosine_of_features_to_fp32"] > 0.99
    assert by_figure["OTI, fp16 in the loop"]["smallest_cosine_of_features_to_fp32"] > 0.99
    text = record.read_text()
    ratios, ways = sum("ratio" in row for row in rows), sum("way" in row for row in rows)
    assert text.count("\n| ") == ratios + ways + 2  # and two headers
    assert 'make bench BENCH_ARGS="--models ViT-S-32 --batches 2"' in text
    assert torch.__version__ in text
    assert "| goal | met |" in text


def test_a_part_that_would_begin_after_the_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import __main__ as bench

    parts = {
        name: (lambda: iter([{"figure": "f", "model": "m", "way": "w", **dict.fromkeys(NUMBERS, 1)}])) for name in "ab"
    }
    monkeypatch.setattr(bench, "parts_of", lambda *options: parts)
    monkeypatch.setattr(bench, "_machine", lambda device: dict.fromkeys(MACHINE, 1.0))
    options = ["--minutes", "0", "--out", str(tmp_path / "bench.json"), "--record", str(tmp_path)]
    bench.main(["--device", "cuda", *options])
    assert "- b: not measured, the time was over" in (tmp_path / "benchmarks-cuda.md").read_text()
    bench.main(["--device", "cpu", "--parts", "b", *options])  # a processor is given its time
    text = (tmp_path / "benchmarks.md").read_text()
    assert (text.count("| m | w |"), "not measured" in text) == (1, False)
    with pytest.raises(SystemExit):
        bench.main(["--device", "cpu", "--parts", "c", *options])


def test_a_ratio_of_what_was_not_counted_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured step launches with one call, in which no operation is counted."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import inversion_step

    monkeypatch.setattr(inversion_step, "operations", lambda run: 0)
    rows = list(inversion_step.measure("ViT-S-32", [1], torch.device("cpu"), quick=True))
    assert [(row["flops"], row["share_of_matrix_rate"]) for row in rows] == [(None, None)] * 2


NUMBERS = ("steps", "seconds", "cosine", "ap")
MACHINE = (
    "date", "device", "processor", "cores", "threads", "load", "torch", "float32_matrix_rate", "bfloat16_matrix_rate"
)  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be counted from a moment on")
def test_a_folder_holds_galleries_of_several_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import imagenet_scale

    few = ["--queries", "5", "--dim", "8", "--folder", str(tmp_path)]
    for size, classes in ((300, 10), (200, 10), (200, 5)):
        rows = imagenet_scale.main([*few, "--gallery", str(size), "--classes", str(classes)])
        assert rows[0]["value"] == size
    assert len(list(tmp_path.iterdir())) == 3


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
