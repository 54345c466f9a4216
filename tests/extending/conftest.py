"""A plug-in file of one kind, in an empty folder, with registries that are afterwards as they were."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from xgap_analysis.corrections import CORRECTIONS
from xgap_analysis.datasets import DATASETS
from xgap_analysis.metrics import METRICS
from xgap_analysis.models import MODELS
from xgap_analysis.scoring import SCORERS
from xgap_analysis.views import VIEWS

SMALL = ["--models", "tiny-untrained", "--split", "val", "--limit", "3", "--out", "study.parquet"]
LINES = 25  # at most, of one extension


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registries: tuple[Mapping[str, Any], ...] = (VIEWS, SCORERS, CORRECTIONS, METRICS, MODELS, DATASETS)
    before = [set(registry) for registry in registries]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            registry.remove(name)  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.startswith("xgap_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The file `mine.py`, of the text `OWN` of the test's module."""
    own = request.module.OWN.strip()
    assert len([line for line in own.splitlines() if line.strip()]) <= LINES
    (tmp_path / "mine.py").write_text(own + "\n")
    return "mine.py"


@pytest.fixture
def small() -> list[str]:
    """Arguments of a small study."""
    return SMALL
