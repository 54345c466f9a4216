"""The site: built without a warning, with no broken link, and with every public name two clicks from the front page."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

import xgap_analysis as xg

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"
PUBLIC = sorted(set(dir(xg)) - set(xg._ROOMS))
sys.path.insert(0, str(SITE))

import diagram  # noqa: E402  a module of the site, which is no package
import markup  # noqa: E402
import reference  # noqa: E402


class Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        if tag == "a" and values.get("href"):
            self.links.add(str(values["href"]))
        elif tag == "link" and values.get("rel") in {"stylesheet", "icon", "preload"}:
            self.loaded.add(str(values.get("href")))
        elif tag in {"script", "img", "iframe", "source"} and values.get("src"):
            self.loaded.add(str(values["src"]))


# What needs no build


def test_the_reference_lists_every_public_name_once() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == PUBLIC
    assert [room for room in reference.ROOMS if f"reference/{room}.md" not in text] == []


def test_every_further_name_of_a_room_is_on_its_page() -> None:
    for room in xg._ROOMS:
        page = reference.room_page(room)
        assert [name for name, _ in reference.own_names(room) if not re.search(rf":: {name}$", page, re.M)] == []


def test_the_diagram_is_drawn_without_a_script_and_holds_every_room() -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    arrows, floors = diagram.ARROW.findall(page), diagram.floors(page)
    image = diagram.svg(arrows, floors)
    assert [room for row in floors for room in row if f">{room}</text>" not in image] == []
    assert image.count("<path d=") == len(arrows) + 1  # and the tip
    assert "mermaid" not in diagram.drawn(page)
    assert diagram.drawn("no diagram") == "no diagram"


TABLE = "\n.. list-table::\n   :header-rows: 1\n\n   * - a\n     - b\n   * - ``|c|``\n     - 1\\*2\n\n\nMore."


@pytest.mark.parametrize(
    ("docstring", "restructured"),
    [
        ("Rows `[n, d]` of x*y.", "Rows ``[n, d]`` of x\\*y."),
        ("A tower_ of `width`s.", "A tower\\_ of ``width``\\ s."),
        ("Words.\n\n    import xgap_analysis as xg\n\nMore *words*.", None),
        ("Example:\n    xg.chosen(table)\n    more(`x`)", "Example::\n\n    xg.chosen(table)\n    more(`x`)"),
        ("Example:\n    >>> f(*x)\n    `y`", "Example:\n    >>> f(*x)\n    `y`"),
        ("| a | b |\n|---|---|\n| `|c|` | 1*2 |\n\nMore.", TABLE),
        ("Args:\n    x, y: `[n, d]` rows.", "Args:\n    x, y: ``[n, d]`` rows."),
    ],
)
def test_a_docstring_of_the_house_is_read_as_it_is_meant(docstring: str, restructured: str | None) -> None:
    expected = restructured or "Words.\n\n::\n\n    import xgap_analysis as xg\n\nMore \\*words\\*."
    assert "\n".join(markup.as_restructured_text(docstring.split("\n"))) == expected


# The notebooks


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("build_of_the_site", SITE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_report_is_made_where_a_notebook_has_changed_since(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr("xgap_analysis.cli.page.make_report", lambda notebooks, out: made.append(out))
    file, report = tmp_path / "a.ipynb", tmp_path / "report"
    cell = nbformat.v4.new_code_cell("1 + 1")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), file)
    assert build.executed([file], report) == [report / "notebooks" / "a.ipynb"]
    assert made == [report]
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"})]
    (report / "notebooks").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), report / "notebooks" / "a.ipynb")
    build.executed([file], report)
    assert made == [report]  # the same cells: its outputs are shown
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 2")]), file)
    build.executed([file], report)
    assert made == [report, report]


# The built site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with notebooks as they are committed; a warning of Sphinx is an error."""
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, str(SITE / "build.py"), "--plain", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def target(file: Path, link: str) -> tuple[Path, str]:
    """The file and the anchor that a link within the site leads to."""
    parts = urlsplit(link)
    return (file.parent / unquote(parts.path)).resolve() if parts.path else file, unquote(parts.fragment)


@pytest.mark.slow
def test_every_link_within_the_site_leads_to_a_page_and_an_anchor_of_it(built: dict[Path, Page]) -> None:
    wrong = []
    for file, page in built.items():
        for link in page.links | page.loaded:
            if urlsplit(link).scheme:
                continue
            to, anchor = target(file, link)
            if not to.exists() or (anchor and to in built and anchor not in built[to].anchors):
                wrong.append(f"{file.name}: {link}")
    assert wrong == []
    assert len(built) > 100


@pytest.mark.slow
def test_it_loads_nothing_from_a_network(built: dict[Path, Page]) -> None:
    loaded = {link for page in built.values() for link in page.loaded}
    assert [link for link in loaded if urlsplit(link).scheme not in {"", "data"} or link.startswith("//")] == []


@pytest.mark.slow
def test_every_public_name_is_two_clicks_from_the_front_page(site: Path, built: dict[Path, Page]) -> None:
    seen = {site / "index.html"}
    for _ in range(2):
        seen |= {to for file in seen for link in built[file].links if (to := target(file, link)[0]) in built}
    near = set().union(*(built[file].anchors for file in seen))
    further = {f"xgap_analysis.{room}.{name}" for room in xg._ROOMS for name, _ in reference.own_names(room)}
    assert {f"xgap_analysis.{name}" for name in PUBLIC} | further <= near


@pytest.mark.slow
def test_every_notebook_and_every_page_is_in_it(site: Path) -> None:
    names = [f"notebooks/{file.stem}" for file in ROOT.glob("notebooks/*.ipynb")]
    names += [file.relative_to(ROOT).with_suffix("").as_posix() for file in ROOT.glob("docs/**/*.md")]
    names.remove("docs/index")
    assert set(names) > {"docs/tutorials", "docs/glossary", "docs/explanation/debate"}
    tutorials = (site / "docs" / "tutorials.html").read_text(encoding="utf-8")
    assert [name for name in names if name.startswith("notebooks/") and f"../{name}.html" not in tutorials] == []
    assert [name for name in names if not (site / f"{name}.html").exists()] == []
    assert "mermaid" not in (site / "docs" / "ARCHITECTURE.html").read_text(encoding="utf-8")
