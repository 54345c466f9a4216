"""The how-to pages: each page's Python runs as it stands, block after block, and its commands parse."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.cli.command import _parse
from xgap_analysis.models import MODELS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name}, Python block {number + 1}", "exec"), names)
    return names


def test_your_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        names = run(ROOT / "docs" / "how-to" / "your-own-model.md")
    finally:
        if "mine" in MODELS:
            MODELS.remove("mine")
    said = capsys.readouterr().out
    assert said.strip() == (
        "tower Own: image, 16 dimensions; it encodes and can be inverted into, with 16 tokens of 32 dimensions"
    )
    rows = xg.main_rows(names["table"])
    assert list(rows["model"]) == ["mine", "mine(scale=100.0)"]
    assert not rows["note"].any()
    assert names["gaps"]["modality_gap"].iloc[0] > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse_and_links_lead_somewhere(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "xgap":
                assert isinstance(_parse(words[1:]), cli.COMMANDS[words[1]])
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [x for x in links if "://" not in x and not page.parent.joinpath(x).exists()] == []
