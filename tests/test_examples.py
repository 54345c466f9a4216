"""The examples in docstrings run, and every public and every registered name has one."""

import doctest
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import xgap_analysis

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOT = Path(xgap_analysis.__file__).parent


def modules_with_examples() -> list[str]:
    """Found by their text, so that collecting the tests imports nothing heavy."""
    found = pkgutil.walk_packages([str(ROOT)], "xgap_analysis.")
    return [m.name for m in found if not m.ispkg and ">>>" in _source(m.name)]


def _source(module: str) -> str:
    return ROOT.parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*captions are longer")
@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module: ModuleType = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0
