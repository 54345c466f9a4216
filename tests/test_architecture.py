"""The floors of the house: a room imports only from itself and from floors below (see CONTRIBUTING.md)."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "xgap_analysis"
ROOT = Path(__file__).parent.parent / PACKAGE
FLOORS = [
    {"core"},
    {"store"},
    {"models", "datasets", "scoring"},
    {"metrics"},
    {"corrections", "views"},
    {"training"},
    {"experiments"},
    {"plots"},
    {"cli", "widgets"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
GROUND = 0  # its rooms may lean on each other
TOP = len(FLOORS)
SOURCES = sorted(ROOT.rglob("*.py"))
NAMED_FOR_NOTHING = {"utils", "helpers", "misc", "common"}
HEAVY = {
    "IPython",
    "ipywidgets",
    "jscatter",
    "matplotlib",
    "numba",
    "open_clip",
    "seaborn",
    "sklearn",
    "timm",
    "transformers",
    "umap",
}


def room_of(source: Path) -> str:
    """The first name under the package; an empty string for the package's own `__init__.py`."""
    first = source.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_rooms(source: Path, text: str) -> Iterator[tuple[int, str]]:
    """Line and room of each import of ours, wherever in the file it stands."""
    package = [PACKAGE, *source.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            modules = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == PACKAGE:
                yield node.lineno, parts[1] if len(parts) > 1 else ""


def violations(source: Path, text: str) -> list[str]:
    """What a file imports from its own floor's other rooms or from above."""
    room = room_of(source)
    if room in {"", "__main__"}:
        return []
    height = FLOOR[room]
    wrong = []
    for line, other in imported_rooms(source, text):
        above = FLOOR.get(other, TOP)  # the package itself, and any name that is no room, is the top
        if other != room and above >= height and not (above == height == GROUND):
            wrong.append(f"{source.relative_to(ROOT)}:{line} ({room}, floor {height}) imports {other or PACKAGE}")
    return wrong


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(source) for source in SOURCES} - {"", "__main__"}
    assert {"errors", "features", "store", "metrics"} <= rooms
    assert rooms <= FLOOR.keys()


def test_rooms_import_only_from_floors_below() -> None:
    assert [wrong for source in SOURCES for wrong in violations(source, source.read_text())] == []


@pytest.mark.parametrize(
    ("file", "text", "allowed"),
    [
        ("store.py", "from xgap_analysis.core.errors import XgapError", True),
        ("store.py", "import xgap_analysis.views.encode", False),
        ("store.py", "def f():\n    from xgap_analysis import study", False),
        ("store.py", "from xgap_analysis import load_model", False),
        ("store.py", "from xgap_analysis.metrics import gap", False),
        ("features.py", "from xgap_analysis.core.errors import XgapError", True),
        ("metrics/gap.py", "from .retrieval import x", True),
        ("metrics/gap.py", "from ..features import x", True),
        ("metrics/gap.py", "from .. import plots", False),
        ("study.py", "import torch, xgap_analysis.store.tasks", True),
        ("__init__.py", "from xgap_analysis.cli import main", True),
    ],
)
def test_the_check_itself_sees_every_form_of_import(file: str, text: str, allowed: bool) -> None:
    assert (violations(ROOT / file, text) == []) is allowed


def test_files_are_named_for_what_they_hold() -> None:
    assert [str(source) for source in SOURCES if source.stem in NAMED_FOR_NOTHING] == []


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.cli"])
def test_an_import_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(m.partition('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(json.loads(done.stdout)) == set()
