"""The table of published systems: each name resolves, and each test exists."""

import ast
import inspect
import json
from pathlib import Path

import pytest

from xgap_analysis import cli
from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.systems import TABLE, System, resolve, systems

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("system", systems(), ids=lambda system: system.system)
def test_its_names_resolve_and_its_test_exists(system: System) -> None:
    for name in system.names:
        found = resolve(name)
        code = next((getattr(found, part) for part in ("maker", "function") if hasattr(found, part)), found)
        assert callable(code)
        assert inspect.getdoc(code)
    file, _, test = system.test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["systems", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["system"] for row in rows] == [system.system for system in systems()]
    assert set(rows[0]) == {"system", "paper", "kind", "registry", "built", "left_out", "data", "test"}
    assert cli.main(["systems"]) == 0
    printed = capsys.readouterr().out
    assert all(row["system"] in printed and row["built"] in printed for row in rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("system,paper", "name,paper"), "has the columns"),
        ((",scorer,", ",score,"), "unknown kind of FILIP: 'score'; nearest names: scorer"),
        ((",scorer,", ",,"), "line 2 of systems.csv has no kind"),
        (("XBT,", "FILIP,"), "'FILIP' stands twice"),
        (("\nXBT,", "\nX,BT,"), "line 3 of systems.csv has more cells than columns"),
    ],
)
def test_a_table_with_a_mistake_is_refused(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    text = TABLE.read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "systems.csv").write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(XgapError, match=message):
        systems(tmp_path / "systems.csv")


@pytest.mark.parametrize("name", ["metrics.cut:nothing", "nowhere:cut", "scorer:cosin"])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(XgapError, match=r"names nothing|unknown scorer 'cosin'"):
        resolve(name)
