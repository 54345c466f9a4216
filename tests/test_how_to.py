"""The pages of the documentation: their Python runs as it stands, block after block, and their commands parse."""

import doctest
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.cli.command import _parse
from xgap_analysis.models import MODELS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
EXTENSIONS = "extensions.md"  # its blocks are plugins: tests/extending loads each of them


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return ["\n".join(line[len(indent) :] for line in block.split("\n")) for indent, block in found]


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language) and page.name != EXTENSIONS]


def run(page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name}, Python block {number + 1}", "exec"), names)
    return names


@pytest.fixture
def nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and a registry of models that is afterwards as it was."""
    before = set(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XGAP_RESULTS", str(tmp_path / "results"))
    yield
    for name in set(MODELS) - before:
        MODELS.remove(name)


def test_your_own_model(nothing_stays: None, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(ROOT / "docs" / "how-to" / "your-own-model.md")
    assert capsys.readouterr().out.strip() == (
        "tower Own: image, 16 dimensions; it encodes and can be inverted into, with 16 tokens of 32 dimensions"
    )
    rows = xg.main_rows(names["table"])
    assert list(rows["model"]) == ["mine", "mine(scale=100.0)"]
    assert not rows["note"].any()
    assert names["gaps"]["modality_gap"].iloc[0] > 0


OTHERS = [page for page in with_blocks("python") if page.name != "your-own-model.md"]


@pytest.mark.slow
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, nothing_stays: None) -> None:
    assert run(page)


@pytest.mark.parametrize("page", with_blocks("pycon"), ids=lambda page: page.stem)
def test_what_a_page_prints_is_what_is_printed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # some of it reads the committed tables
    text = "\n".join(blocks(page, "pycon"))
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=said.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse_and_links_lead_somewhere(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "xgap":
                assert isinstance(_parse(words[1:]), cli.COMMANDS[words[1]])
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    files = [ROOT / link[1:] if link.startswith("/") else page.parent / link for link in links if "://" not in link]
    made = ROOT / "docs" / "reference"  # by the site, whose own test follows these
    assert [file for file in files if not file.exists() and file.resolve().parent != made] == []
