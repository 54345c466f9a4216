"""A plugin of one kind from the page on extensions, in a folder of its own."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SMALL = ["--models", "tiny-untrained", "--split", "val", "--limit", "3", "--out", "study.parquet"]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "extensions.md"
LINES = 25  # at most, of one extension


@pytest.fixture(autouse=True)
def no_plugin_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
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
