"""What a reader does: open JupyterLab, run the quickstart and the explorers, look at them, and use them."""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent
NOTEBOOK = "00_quickstart.ipynb"
EXPLORERS = "explorers.ipynb"
PICTURES = ROOT / "results" / "browser"
FLAGS = [
    "--no-sandbox",  # Chromium's own sandbox does not start in most containers; the page is ours
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    # All cells stay in the page, also those out of sight.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
START_SECONDS, RUN_SECONDS = 300, 1200  # a machine may be busy; a cell that raises ends the wait at once

expect.set_options(timeout=90_000)
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2400)]


def find_chromium() -> str:
    """Chromium of this machine; without one the test is skipped, except where CI promises one."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    for name in names:
        found = shutil.which(name) if name else None
        if found:
            return found
    reason = "no Chromium on PATH (install the package chromium, or set CHROMIUM to its executable)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """JupyterLab on the loopback address over a copy of the notebooks: its address, token and folder."""
    tmp_path = tmp_path_factory.mktemp("lab")
    folder = shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    nbformat.write(explorers(), folder / EXPLORERS)
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "overrides.json").write_text(json.dumps(OVERRIDES))
    token = secrets.token_hex(16)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XGAP_HOME")
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={folder}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", f"--LabApp.app_settings_dir={settings}"]
    command += ["--ServerApp.allow_root=True", "--LabApp.extension_manager=readonly"]
    address = f"http://127.0.0.1:{port}"
    log = tmp_path / "lab.log"
    with log.open("wb") as said:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{address}/api", token):
            assert server.poll() is None, f"JupyterLab ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"JupyterLab did not start:\n{log.read_text()}"
            time.sleep(0.2)
        yield address, token, folder
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(address: str, token: str) -> bool:
    request = urllib.request.Request(address, headers={"Authorization": f"token {token}"})
    with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
        return urllib.request.urlopen(request, timeout=5).status == 200
    return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """This machine's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tall page, as wide as a small screen, that notes what its scripts do not catch."""
    page = browser.new_page(viewport={"width": 1280, "height": 3400})
    page.set_default_timeout(START_SECONDS * 1000)
    yield page
    page.close()


def run_all(page: Page, lab: tuple[str, str, Path], notebook: str) -> list[str]:
    """Opens a notebook and runs its cells; gives a list that fills with what the page's scripts do not catch."""
    address, token, _ = lab
    uncaught: list[str] = []
    page.on("pageerror", lambda error: uncaught.append(str(error)))
    # A workspace of its own: the default one would open the notebooks of earlier tests beside this one.
    page.goto(f"{address}/lab/workspaces/{Path(notebook).stem}/tree/{notebook}?token={token}")
    idle = page.get_by_text(re.compile(r"\| Idle"))  # the status bar: before the kernel is there, it has no such word
    idle.wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # Run All marks every cell [*] at once; after an error the cells behind it lose their mark.
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUN_SECONDS * 1000)
    expect(prompts.filter(has_text="[*]")).to_have_count(0, timeout=RUN_SECONDS * 1000)
    idle.wait_for()
    PICTURES.mkdir(parents=True, exist_ok=True)
    return uncaught


def complaints(page: Page) -> list[str]:
    """Errors that a reader would see."""
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error'], .xgap-error").all_inner_texts()
    return errors + page.get_by_text("Error displaying widget").all_inner_texts()


def test_the_quickstart_runs_in_jupyterlab(page: Page, lab: tuple[str, str, Path]) -> None:
    folder = lab[2]
    uncaught = run_all(page, lab, NOTEBOOK)
    page.keyboard.press("Control+s")
    page.wait_for_timeout(2000)  # thumbnails and widgets are drawn after the kernel has ended

    page.screenshot(path=PICTURES / "quickstart.png")
    assert complaints(page) == []
    assert page.get_by_role("dialog").count() == 0
    assert uncaught == []

    saved = nbformat.read(folder / NOTEBOOK, as_version=4)
    code = [cell for cell in saved.cells if cell.cell_type == "code" and cell.source.strip()]
    assert code
    assert [cell.source for cell in code if not cell.execution_count] == []
    assert [output for cell in code for output in cell.outputs if output.output_type == "error"] == []


def test_a_visitor_without_the_token_sees_no_notebook(page: Page, lab: tuple[str, str, Path]) -> None:
    address, _, _ = lab
    response = page.goto(f"{address}/api/contents/{NOTEBOOK}")
    assert response is not None
    assert response.status == 403


CELLS = [
    """
import xgap_analysis as xg
from xgap_analysis import widgets

study = xg.Study(["tiny"], ["emoji"], ["I-I", "OTI-I"], steps=10, limit=8, progress=False)
(evaluation,) = study.evaluations()
""",
    'widgets.link(widgets.GapMap(evaluation), widgets.NeighbourExplorer(evaluation))',
    "widgets.InversionPlayer(evaluation, steps=(0, 2, 5, 10))",
    "board = widgets.VariantBoard(study)\nboard",
    """
(scenes,) = xg.Study(["tiny"], ["emoji-scenes"], ["I-T"], limit=6, progress=False).evaluations()
widgets.TokenExplorer(scenes)
""",
    """
(spoken,) = xg.Study(["oracle"], ["emoji-spoken"], ["I-T"], limit=8, progress=False).evaluations()
widgets.ModalityExplorer(spoken)
""",
    """
captions = ["<img src=x onerror='window.hacked=1'>", "</style><script>window.hacked=1</script>", "a cat", "two cats"]
ids = ["a", "b", "c", "d"]
texts = xg.Texts(ids, captions)
label = dict(zip(ids, "xxyy"))
hostile = xg.Dataset("mine", "all", xg.Images([], None), texts, {"kind": label})
(mine,) = xg.Study(["tiny"], [hostile], ["T-T"]).evaluations()
widgets.NeighbourExplorer(mine, ["T-T"])
""",
    """
(endless,) = xg.Study(["tiny"], ["emoji"], steps=100_000, limit=9, progress=False).evaluations()
widgets.InversionPlayer(endless, steps=(0,))
""",
    "",
]


def explorers() -> nbformat.NotebookNode:
    """A notebook of public names only, with one explorer a cell and an empty cell at the end."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def panel(page: Page, heading: str) -> Locator:
    """The explorer of that heading."""
    return page.locator(".xgap").filter(has=page.locator(".xgap-title", has_text=heading)).first


def slide(panel: Locator, title: str, key: str) -> None:
    """Moves a slider with the keyboard."""
    slider = panel.locator(".widget-hslider, .jupyter-widget-hslider").filter(has_text=title)
    handle = slider.locator(".noUi-handle").first
    handle.focus()
    handle.press(key)


def test_the_explorers_answer_in_jupyterlab(page: Page, lab: tuple[str, str, Path]) -> None:
    uncaught = run_all(page, lab, EXPLORERS)
    neighbours, gapmap, player, board = (
        panel(page, heading)
        for heading in ("Neighbours · tiny on emoji", "Gap map", "Inversion player", "Variant board")
    )
    # Work without end says how far it is, and ends at the press of a button.
    endless = page.locator(".xgap").last
    expect(endless.get_by_text(re.compile(r"OTI with tiny +\d+ / \d+"))).to_be_visible()
    endless.screenshot(path=PICTURES / "progress.png")
    endless.get_by_role("button", name="cancel").click()
    cancelled = endless.locator(".xgap-error")
    expect(cancelled).to_contain_text("Cancelled")

    expect(neighbours.locator(".xgap-row")).to_have_count(2)
    expect(gapmap.locator(".xgap-numbers")).to_be_visible()
    expect(gapmap.locator("canvas").first).to_be_visible()
    expect(player.locator(".xgap-about img")).to_be_visible()
    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / "explorers-first.png")

    # Another query, by the keyboard.
    before = neighbours.locator(".xgap-about").inner_text()
    other = neighbours.locator("button.xgap-small").nth(4)
    other.focus()
    other.press("Enter")
    expect(neighbours.locator(".xgap-about")).not_to_have_text(before)
    chosen = other.get_attribute("title") or ""
    expect(neighbours.locator(".xgap-about")).to_contain_text(chosen)

    # A neighbour becomes the query.
    card = neighbours.locator("button.xgap-card:not(.xgap-small)").first
    neighbour = card.get_attribute("title") or ""
    card.click()
    expect(neighbours.locator(".xgap-about")).to_contain_text(neighbour)

    # A search narrows the strip.
    neighbours.get_by_placeholder("words of a caption").fill("noto")
    expect(neighbours.locator("button.xgap-small[title*='openmoji']")).to_have_count(0)

    # The code for the view gives what is on screen.
    neighbours.get_by_role("button", name="code for this view").click()
    code = neighbours.locator(".xgap-code textarea").input_value()
    shown = [
        (title or "").split(" · ")[0]
        for title in (
            found.get_attribute("title") for found in neighbours.locator("button.xgap-card:not(.xgap-small)").all()
        )
    ]
    last = page.locator(".jp-Notebook .jp-CodeCell").last
    last.locator(".cm-content").click()
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")
    listed = last.locator("table.dataframe")
    expect(listed).to_be_visible()
    assert [cell for cell in listed.locator("td:first-of-type").all_inner_texts() if cell] == shown

    # Sliders: the gap and the step.
    slide(gapmap, "gap shift", "ArrowRight")
    expect(gapmap.locator(".xgap-numbers")).to_contain_text("λ = 0.1")
    gapmap.locator("select").nth(1).select_option("similarity")
    gapmap.locator("select[size]").select_option(index=2)
    expect(gapmap.locator(".xgap-about").filter(has_text="joined to")).to_be_visible()
    expect(gapmap.locator(".xgap-about").first).to_contain_text("cosine to")
    expect(gapmap.locator(".xgap-about").last).to_contain_text("along the gap")

    # The pointer on a dot shows what it is: a sweep over the map meets an image.
    box = gapmap.locator("canvas").first.bounding_box()
    assert box is not None
    picture = gapmap.locator(".xgap-about img")
    for down in range(20, 400, 12):
        page.mouse.move(box["x"], box["y"] + down)
        page.mouse.move(box["x"] + box["width"], box["y"] + down, steps=50)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + down, steps=25)
        page.wait_for_timeout(100)
        if picture.count():
            break
    else:
        pytest.fail("the pointer met no image on the map")
    slide(player, "step", "ArrowLeft")
    expect(player.locator(".xgap-about").last).to_contain_text("step 5")

    # The board computes; a heading sorts; a cell opens the neighbours behind it; saving says where.
    board.get_by_role("button", name="run").click()
    expect(board.locator("button.xgap-cell")).to_have_count(2)
    board.get_by_role("button", name="OTI-I", exact=True).click()
    expect(board.get_by_role("button", name="OTI-I ▼")).to_be_visible()
    board.locator("button.xgap-cell").nth(1).click()
    expect(board.locator(".xgap .xgap-row").first).to_be_visible()
    board.get_by_role("button", name="save").last.click()
    expect(board.locator(".xgap-files")).to_contain_text(".parquet")

    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / "explorers.png")
    for name, shown_panel in (("neighbours", neighbours), ("gapmap", gapmap), ("player", player), ("board", board)):
        shown_panel.screenshot(path=PICTURES / f"{name}.png")
    assert page.evaluate("window.hacked") is None
    expect(panel(page, "Neighbours · tiny on mine")).to_contain_text("<img src=x onerror=")
    assert complaints(page) == cancelled.all_inner_texts()
    assert uncaught == []
