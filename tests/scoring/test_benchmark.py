"""The benchmark of late interaction runs and counts what the formula needs; no time is compared here."""

from pathlib import Path

import pytest
import torch


@pytest.mark.slow
@pytest.mark.bench
def test_a_quick_run_counts_the_operations_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    from benchmarks.late_interaction import measure

    scored, reranked = measure(torch.device("cpu"), quick=True)
    assert scored["score_difference"] < 1e-6
    assert scored["operations_counted_over_needed"] == 1
    assert scored["share_of_matrix_rate"] > 0
    assert reranked["ratio"] > 0
