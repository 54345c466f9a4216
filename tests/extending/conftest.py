"""A plugin of one kind from the page on extensions, and registries that are afterwards as they were."""

import re
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
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "extensions.md"
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


def section(kind: str) -> str:
    """What the page on extensions has of a kind: at most 25 lines."""
    found = re.search(rf"^## An? {kind}$(.*?)(?:^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    (own,) = re.findall(r"```python\n(.*?)```", found.group(1), re.DOTALL)
    assert len([line for line in own.splitlines() if line.strip()]) <= LINES
    return str(own)


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The file `mine.py` of the kind that the test's module is about."""
    (tmp_path / "mine.py").write_text(section(request.path.stem.removeprefix("test_")))
    return "mine.py"


@pytest.fixture
def small() -> list[str]:
    """Arguments of a small study."""
    return SMALL
