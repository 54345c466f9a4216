"""The floors of the house: a room imports only from itself and from floors below (see docs/ARCHITECTURE.md)."""

import ast
import json
import re
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
    "ray",
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
        if other != room and above >= height:
            wrong.append(f"{source.relative_to(ROOT)}:{line} ({room}, floor {height}) imports {other or PACKAGE}")
    return wrong


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(source) for source in SOURCES} - {"", "__main__"}
    assert rooms == FLOOR.keys()


def test_rooms_import_only_from_floors_below() -> None:
    assert [wrong for source in SOURCES for wrong in violations(source, source.read_text())] == []


@pytest.mark.parametrize(
    ("file", "text", "allowed"),
    [
        ("store/keys.py", "from xgap_analysis.core.errors import XgapError", True),
        ("store/keys.py", "import xgap_analysis.views.encode", False),
        ("store/keys.py", "def f():\n    from xgap_analysis import experiments", False),
        ("store/keys.py", "from xgap_analysis import load_model", False),
        ("store/keys.py", "from xgap_analysis.metrics import gap", False),
        ("metrics/gap.py", "from .retrieval import x", True),
        ("metrics/gap.py", "from ..core.features import x", True),
        ("metrics/gap.py", "from .. import plots", False),
        ("corrections/shift.py", "from xgap_analysis.views import encode", False),
        ("experiments/study.py", "import torch, xgap_analysis.store", True),
        ("__init__.py", "from xgap_analysis.cli import main", True),
    ],
)
def test_the_check_itself_sees_every_form_of_import(file: str, text: str, allowed: bool) -> None:
    assert (violations(ROOT / file, text) == []) is allowed


PAGE = (ROOT.parent / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def reachable(arrows: set[tuple[str, str]], room: str) -> set[str]:
    """The rooms that arrows lead to from a room."""
    found: set[str] = set()
    ahead = [room]
    while ahead:
        at = ahead.pop()
        new = {other for start, other in arrows if start == at} - found
        found |= new
        ahead += new
    return found


def test_the_diagram_of_imports_is_true() -> None:
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    drawn = set(re.findall(r"(\w+) --> (\w+)", diagram))
    imports = {
        (room_of(source), other)
        for source in SOURCES
        for _, other in imported_rooms(source, source.read_text())
        if room_of(source) in FLOOR and other in FLOOR and other != room_of(source)
    }
    assert drawn - imports == set(), "these arrows of docs/ARCHITECTURE.md are no imports"
    missing = {(room, other) for room, other in imports if other not in reachable(drawn, room)}
    assert missing == set(), "docs/ARCHITECTURE.md draws no path for these imports"
    by_floor = {
        room: int(floor)
        for floor, rooms in re.findall(r"^\| (\d) \| (.*?) \|", PAGE, re.M)
        for room in re.findall(r"`(\w+)/`", rooms)
    }
    assert by_floor == FLOOR


def test_the_functions_that_the_page_names_are_where_it_says() -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)`((?:,?\s+`[\w.]+`)+)", PAGE)
    assert len(named) > 20
    wrong = []
    for file, names in named:
        source = ROOT / file
        tree = ast.parse(source.read_text()) if source.exists() else ast.Module([], [])
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        wrong += [(file, name) for name in re.findall(r"`([\w.]+)`", names) if not set(name.split(".")) <= there]
    assert wrong == []
    files = set(re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE)) - {"tests/test_architecture.py"}
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_no_module_stands_beside_the_rooms() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


def test_an_init_holds_names_only() -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    wrong = [
        f"{source.relative_to(ROOT)}:{node.lineno}"
        for source in SOURCES
        if source.name == "__init__.py" and source.parent != ROOT  # the package's own loads names when they are used
        for node in ast.parse(source.read_text()).body
        if not isinstance(node, allowed) or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant))
    ]
    assert wrong == []


def _lines_without_docstring(node: ast.ClassDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return lines - (len((ast.get_docstring(node, clean=False) or "").splitlines()))


def test_files_classes_and_functions_are_of_a_size_to_be_read() -> None:
    """A file of 400 lines, a class of 200 and a function body of 60 (both without their docstring) are the most."""
    wrong = []
    for source in SOURCES:
        text, name = source.read_text(), source.relative_to(ROOT)
        if len(text.splitlines()) > 400:
            wrong.append(f"{name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and _lines_without_docstring(node) > 200:
                wrong.append(f"{name}: class {node.name}, {node.end_lineno - node.lineno + 1} lines")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                if lines > 60:
                    wrong.append(f"{name}: function {node.name}, {lines} lines")
    assert wrong == []


def test_files_are_named_for_what_they_hold() -> None:
    assert [str(source) for source in SOURCES if source.stem in NAMED_FOR_NOTHING] == []


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.cli"])
def test_an_import_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(m.partition('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(json.loads(done.stdout)) == set()
