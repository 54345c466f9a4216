"""The examples in docstrings run, and every public name, scorer, correction and objective has one."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import xgap_analysis
from xgap_analysis.corrections import CORRECTIONS
from xgap_analysis.scoring import SCORERS
from xgap_analysis.training import OBJECTIVES

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


def _documented() -> Iterator[tuple[str, str]]:
    """Public and registered names of the package, with their docstrings."""
    for name in dir(xgap_analysis):
        value = getattr(xgap_analysis, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, inspect.getdoc(value) or ""
    for name in CORRECTIONS:
        yield name, inspect.getdoc(xgap_analysis.correction(name).maker) or ""
    for name, scorer in SCORERS.items():
        yield name, inspect.getdoc(scorer) or ""
    for name, term in OBJECTIVES.items():
        yield name, inspect.getdoc(term.loss) or ""


def test_every_public_name_has_an_example() -> None:
    assert {name for name, doc in _documented() if ">>>" not in doc} == set()
