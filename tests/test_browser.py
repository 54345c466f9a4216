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
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import axe_core_python.base
import nbformat
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

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
WIDTHS = (900, 1280)  # of the window; the file browser is open, so that an output is 450 or 830 wide
TALL = 5200  # a page that shows all explorers at once
TRACEBACK = "Traceback (most recent call last)"
# What libraries say on a busy machine and then do all the same: a plot draws what it left out with its next change, and
# a widget that took more than two seconds to start has started.
OF_A_BUSY_MACHINE = ("Ignoring draw call as the previous draw call", "[anywidget] Failed to initialize model")
# What axe finds in JupyterLab's own parts: figures of matplotlib have no text beside them.
OF_JUPYTERLAB = [".jp-RenderedImage"]
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
    """A tall page, as wide as a small screen."""
    page = tall_page(browser)
    yield page
    page.close()


def tall_page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": WIDTHS[-1], "height": TALL})
    page.set_default_timeout(START_SECONDS * 1000)
    return page


def run_all(page: Page, lab: tuple[str, str, Path], notebook: str) -> list[str]:
    """Opens a notebook and runs its cells; gives a list that fills with what nobody catches.

    These are errors of the page's scripts, and tracebacks that the kernel sends: JupyterLab shows those of a cell in
    the cell, but those of a button's function only in a log that is closed.
    """
    address, token, _ = lab
    uncaught: list[str] = []

    def noted(error: Error) -> None:
        if not str(error).startswith(OF_A_BUSY_MACHINE):
            uncaught.append(str(error))

    page.on("pageerror", noted)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: uncaught.extend(traceback_in(frame))))
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


def traceback_in(frame: str | bytes) -> list[str]:
    """The traceback that a message of the kernel holds, if it does."""
    text = frame.decode(errors="replace") if isinstance(frame, bytes) else frame
    return [text] if TRACEBACK in text else []


def complaints(page: Page) -> list[str]:
    """Errors that a reader would see. JupyterLab shows a cell's traceback as it shows what is printed to stderr."""
    said = page.locator(".jp-OutputArea-output").all_inner_texts()
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error'], .xgap-error").all_inner_texts()
    tracebacks = [text for text in said if re.search(r"Traceback\s+\(most recent call last\)", text)]
    return errors + tracebacks + page.get_by_text("Error displaying widget").all_inner_texts()


def focused(page: Page) -> dict[str, Any]:
    """What has the focus: its name and whether a frame shows it, and whether it is an explorer's."""
    return dict(
        page.evaluate("""() => {
        const e = document.activeElement, style = getComputedStyle(e);
        return {
            what: `${e.tagName} ${e.ariaLabel || e.title || e.value || e.innerText || ""}`.slice(0, 80),
            framed: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
            ours: e.closest(".xgap") !== null,
        };
    }""")
    )


def tab_to(page: Page, wanted: Locator, most: int = 120) -> None:
    """Presses Tab until something has the focus; on the way everything in an explorer must show that it has it."""
    passed = []
    for _ in range(most):
        page.keyboard.press("Tab")
        page.wait_for_timeout(30)
        here = focused(page)
        passed.append(here["what"])
        assert here["framed"] or not here["ours"], f"{here['what']!r} does not show that it has the focus"
        if wanted.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"Tab does not lead there, but to {passed}")


def start_at(page: Page, cell: int) -> None:
    """Selects a cell by keyboard, as a reader does who goes through the notebook."""
    page.keyboard.press("Escape")
    page.locator(".jp-Notebook .jp-CodeCell").nth(cell).evaluate("cell => cell.focus()")


def found_by_axe(output: Locator) -> list[str]:
    """What axe calls serious or critical in an output, without JupyterLab's own parts."""
    if not output.evaluate("() => typeof axe !== 'undefined'"):
        output.page.evaluate(axe_core_python.base.AXE_SCRIPT)
    return list(
        output.evaluate(
            """async (element, others) => {
                const {violations} = await axe.run({include: [element], exclude: others.map(one => [one])});
                return violations.filter(found => ["serious", "critical"].includes(found.impact)).map(
                    found => `${found.id}: ${found.nodes.map(node => node.html.slice(0, 200)).join(" ")}`
                );
            }""",
            OF_JUPYTERLAB,
        )
    )


def sideways(output: Locator) -> list[str]:
    """Parts of an output that have to be scrolled sideways; lists and tables of results scroll alone."""
    return list(
        output.evaluate(
            """element => [element, ...element.querySelectorAll("*")].filter(
                part => part.clientWidth && part.scrollWidth > part.clientWidth
                    && (part === element || ["auto", "scroll"].includes(getComputedStyle(part).overflowX))
                    && !part.closest("select, textarea, .xgap-table")
            ).map(part => `${part.className} is ${part.scrollWidth} wide in ${part.clientWidth}`)"""
        )
    )


def check_looks(outputs: Mapping[str, Locator]) -> None:
    """Takes a screenshot of each output at both widths; nothing scrolls sideways, and axe finds nothing."""
    page = next(iter(outputs.values())).page
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": TALL})
        for name, output in outputs.items():
            seen = [in_the_end(page, partial(check, output)) for check in (sideways, found_by_axe)]
            output.screenshot(path=PICTURES / f"{name}-{width}.png")
            found += [f"{name} at {width}: {what}" for of in seen for what in of]
    assert found == []


def in_the_end(page: Page, found: Callable[[], list[str]], most: int = 20) -> list[str]:
    """What is found still after a while: a busy machine needs a moment to draw a page, or to send and save."""
    for _ in range(most):
        if not found():
            break
        page.wait_for_timeout(1000)
    return found()


def test_the_quickstart_runs_in_jupyterlab(page: Page, lab: tuple[str, str, Path]) -> None:
    folder = lab[2]
    uncaught = run_all(page, lab, NOTEBOOK)
    page.keyboard.press("Control+s")
    use_the_quickstart(page)
    page.screenshot(path=PICTURES / "quickstart.png")
    bars = page.locator(".jp-CodeCell").evaluate_all(
        """cells => cells.map(cell => [...cell.querySelectorAll("[role=progressbar], .widget-hprogress, progress")]
            .filter(bar => bar.offsetParent).length)"""
    )
    assert max(bars) <= 1, "a finished bar goes away"
    assert complaints(page) == []
    assert page.get_by_role("dialog").count() == 0
    assert uncaught == []

    def code() -> list[nbformat.NotebookNode]:
        saved = nbformat.read(folder / NOTEBOOK, as_version=4)
        return [cell for cell in saved.cells if cell.cell_type == "code" and cell.source.strip()]

    assert code()
    assert in_the_end(page, lambda: [cell.source for cell in code() if not cell.execution_count]) == []
    assert [output for cell in code() for output in cell.outputs if output.output_type == "error"] == []


def use_the_quickstart(page: Page) -> None:
    """Chooses a query by mouse; Tab leads to the steps (JupyterLab takes the arrow keys of plain ipywidgets)."""
    output = page.locator(".jp-OutputArea-output").filter(has=page.locator(".widget-interact"))
    figure, (query, step) = output.locator("img"), output.locator("select").all()
    before = figure.get_attribute("src")
    query.select_option(index=1)
    expect(figure).not_to_have_attribute("src", before or "")
    query.focus()
    tab_to(page, step)
    check_looks({"quickstart": output})


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
    """
gapmap = widgets.GapMap(evaluation)
widgets.link(gapmap, widgets.NeighbourExplorer(evaluation))
""",
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


def test_every_explorer_of_a_notebook_is_among_them() -> None:
    used = set[str]()
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(file, as_version=4).cells:
            if "from xgap_analysis import widgets" in cell.source:
                used |= set(re.findall(r"\bwidgets\.(\w+)\(", cell.source))
    assert used == set(re.findall(r"\bwidgets\.(\w+)\(", "\n".join(CELLS)))


Opened = tuple[Page, list[str]]  # and what nobody caught


@pytest.fixture(scope="module")
def opened(browser: Browser, lab: tuple[str, str, Path]) -> Iterator[Opened]:
    """The notebook of the explorers, run once for all tests of them."""
    page = tall_page(browser)
    yield page, run_all(page, lab, EXPLORERS)
    page.close()


def panel(page: Page, heading: str) -> Locator:
    """The explorer of that heading."""
    return page.locator(".xgap").filter(has=page.locator(".xgap-title", has_text=heading)).first


def six(page: Page) -> dict[str, Locator]:
    """An explorer of each kind."""
    headings = {
        "gapmap": "Gap map",
        "neighbours": "Neighbours · tiny on emoji",
        "player": "Inversion player",
        "board": "Variant board",
        "tokens": "Tokens",
        "modalities": "Modalities",
    }
    return {name: panel(page, heading) for name, heading in headings.items()}


def cards(panel: Locator) -> Locator:
    """The neighbours in an explorer's rows, which can be clicked."""
    return panel.locator("button.xgap-card:not(.xgap-small)")


def drag(panel: Locator, title: str, share: float) -> None:
    """Moves a slider with the mouse, to a share of its width."""
    slider = panel.get_by_role("slider", name=title)
    box = slider.bounding_box()
    assert box is not None
    slider.click(position={"x": box["width"] * share, "y": box["height"] / 2})


def test_work_without_end_says_how_far_it_is_and_is_cancelled(opened: Opened) -> None:
    page, _ = opened
    endless = page.locator(".xgap").last
    expect(endless.get_by_text(re.compile(r"OTI with tiny +\d+ / \d+"))).to_be_visible()
    endless.screenshot(path=PICTURES / "progress.png")
    endless.get_by_role("button", name="cancel").click()
    expect(endless.locator(".xgap-error")).to_contain_text("Cancelled")


def test_the_explorers_are_used_by_mouse(opened: Opened) -> None:
    page, uncaught = opened
    use_neighbours(page)
    use_the_map(page)
    _, _, player, board, tokens, modalities = six(page).values()

    drag(player, "step", 0.7)
    expect(player.locator(".xgap-about").last).to_contain_text("step 5")
    player.get_by_role("button", name="play the steps").click()
    expect(player.locator(".xgap-about").last).to_contain_text("step 10")

    # The board computes; a heading sorts; a cell opens the neighbours behind it; saving says where.
    board.get_by_role("button", name="run").click()
    expect(board.locator("button.xgap-cell")).to_have_count(2)
    board.get_by_role("button", name="OTI-I", exact=True).click()
    expect(board.get_by_role("button", name="OTI-I ▼")).to_be_visible()
    board.locator("button.xgap-cell").nth(1).click()
    expect(board.locator(".xgap .xgap-row").first).to_be_visible()
    board.get_by_role("button", name="save").last.click()
    expect(board.locator(".xgap-files")).to_contain_text(".parquet")

    # Another item of the ranking, and another label: a card is clicked.
    shown = tokens.get_by_role("img", name="token pairs of").get_attribute("alt")
    cards(tokens).nth(2).click()
    expect(tokens.get_by_role("img", name="token pairs of")).not_to_have_attribute("alt", shown or "")
    label = modalities.locator(".xgap-about b").first
    before = label.inner_text()
    modalities.locator("select[size]").select_option(index=3)
    expect(label).not_to_have_text(before)

    assert page.evaluate("window.hacked") is None
    expect(panel(page, "Neighbours · tiny on mine")).to_contain_text("<img src=x onerror=")
    assert complaints(page) == page.locator(".xgap").last.locator(".xgap-error").all_inner_texts()
    assert uncaught == []


def use_neighbours(page: Page) -> None:
    neighbours = six(page)["neighbours"]
    expect(neighbours.locator(".xgap-row")).to_have_count(2)

    # Another query; a neighbour becomes the query; a search narrows the strip.
    other = neighbours.locator("button.xgap-small").nth(4)
    other.click()
    expect(neighbours.locator(".xgap-about")).to_contain_text(other.get_attribute("title") or "")
    neighbour = cards(neighbours).first.get_attribute("title") or ""
    cards(neighbours).first.click()
    expect(neighbours.locator(".xgap-about")).to_contain_text(neighbour)
    neighbours.get_by_placeholder("words of a caption").fill("noto")
    expect(neighbours.locator("button.xgap-small[title*='openmoji']")).to_have_count(0)

    # The code for the view gives what is on screen.
    neighbours.get_by_role("button", name="code for this view").click()
    run_in_the_last_cell(page, neighbours.locator(".xgap-code textarea").input_value())
    shown = [(card.get_attribute("title") or "").split(" · ")[0] for card in cards(neighbours).all()]
    listed = page.locator(".jp-Notebook .jp-CodeCell").last.locator("table.dataframe")
    expect(listed).to_be_visible()
    assert [cell for cell in listed.locator("td:first-of-type").all_inner_texts() if cell] == shown


def run_in_the_last_cell(page: Page, code: str) -> None:
    page.locator(".jp-Notebook .jp-CodeCell").last.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")


def use_the_map(page: Page) -> None:
    gapmap, neighbours = six(page)["gapmap"], six(page)["neighbours"]
    expect(gapmap.locator(".xgap-numbers")).to_be_visible()
    drag(gapmap, "gap shift", 0.55)
    expect(gapmap.locator(".xgap-numbers")).to_contain_text("λ = 0.6")
    expect(gapmap.locator(".xgap-numbers")).not_to_contain_text("…")
    gapmap.locator("select").nth(1).select_option("similarity")
    gapmap.locator("select[size]").select_option(index=2)
    expect(gapmap.locator(".xgap-about").filter(has_text="joined to")).to_be_visible()
    expect(gapmap.locator(".xgap-about").first).to_contain_text("cosine to")
    expect(gapmap.locator(".xgap-about").last).to_contain_text("along the gap")

    # A lasso around half of the map selects several items, which are listed.
    gapmap.get_by_title("Activate lasso selection").click()
    corners = [(0.1, 0.05), (0.9, 0.05), (0.9, 0.6), (0.1, 0.6), (0.1, 0.08)]

    def lasso() -> None:
        left, top, width, height = place_of_the_canvas(gapmap)
        ring = [(left + x * width, top + y * height) for x, y in corners]
        page.mouse.move(*ring[0])
        page.mouse.down()
        for corner in ring[1:]:
            page.mouse.move(*corner, steps=15)
        page.mouse.up()

    about = gapmap.locator(".xgap-about")
    repeat(lasso, about.filter(has_text=re.compile(r"selected \d+ (image|text)s?")))
    gapmap.screenshot(path=PICTURES / "lasso.png")
    gapmap.get_by_title("Activate pan & zoom").click()

    # The pointer on a dot shows what it is; a click on it shows its neighbours in the linked explorer.
    item, x, y = place_of_an_image(page)

    def point_at() -> None:
        left, top, width, height = place_of_the_canvas(gapmap)
        dot = left + width / 2 + (x - 0.5) * height, top + y * height  # both axes are drawn to the scale of the height
        page.mouse.move(dot[0], dot[1] + 60)
        page.mouse.move(*dot)

    def click() -> None:
        point_at()
        page.mouse.down()
        page.mouse.up()

    this = about.filter(has_text=re.compile(rf"^\s*image {item}"))
    repeat(point_at, this)
    expect(this.locator("img")).to_be_visible()
    repeat(click, this.filter(has_text="joined to"))
    expect(neighbours.locator(".xgap-about")).to_contain_text(item)


def place_of_the_canvas(gapmap: Locator) -> tuple[float, float, float, float]:
    """Left, top, width and height of the plot, once it is in sight."""
    canvas = gapmap.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def repeat(gesture: Callable[[], None], seen: Locator, most: int = 20) -> None:
    """Does something with the mouse until its effect is seen: a plot overlooks the mouse while it draws."""
    for _ in range(most):
        gesture()
        with contextlib.suppress(AssertionError):
            expect(seen).to_be_visible(timeout=4000)
            return
    expect(seen).to_be_visible()


PLACE = """
table = gapmap.table()
(left, right), (low, high) = (gapmap._map._scales[axis] for axis in ("x_scale", "y_scale"))
far = table[table["space"] == "image"].nlargest(1, "x").iloc[0]
print("place", far["item"], (far["x"] - left) / (right - left), (high - far["y"]) / (high - low))
"""


def place_of_an_image(page: Page) -> tuple[str, float, float]:
    """The image that lies farthest to the right: its id, and where it is, as shares of the map from the top left."""
    run_in_the_last_cell(page, PLACE)
    printed = page.locator(".jp-Notebook .jp-CodeCell").last.get_by_text(re.compile("^place "))
    _, item, x, y = printed.inner_text().split()
    return item, float(x), float(y)


def test_the_explorers_are_used_by_keyboard_alone(opened: Opened) -> None:
    page, uncaught = opened
    gapmap, neighbours, player, board, tokens, modalities = six(page).values()
    start_at(page, 1)
    tab_to(page, gapmap.get_by_role("slider", name="gap shift"))
    page.keyboard.press("Home")
    expect(gapmap.locator(".xgap-numbers")).to_contain_text("λ = -0.5")
    tab_to(page, gapmap.get_by_placeholder("find an item"))
    page.keyboard.insert_text("openmoji")  # at once: letter by letter would be several searches on a busy machine
    found = gapmap.get_by_role("listbox", name="items found")
    expect(found).to_contain_text("openmoji")
    expect(found).not_to_contain_text("noto/")
    tab_to(page, found)
    about = gapmap.locator(".xgap-about").filter(has_text="joined to")
    page.keyboard.press("End")
    expect(about).to_contain_text("openmoji")
    last = about.inner_text()
    page.keyboard.press("ArrowUp")  # which JupyterLab would take for its own
    expect(about).not_to_have_text(last)
    expect(about).to_contain_text("openmoji")
    expect(neighbours.locator(".xgap-about")).to_contain_text("openmoji")
    page.keyboard.press("Shift+ArrowUp")  # as the lasso does
    expect(gapmap.locator(".xgap-about").filter(has_text="selected 2 images")).to_be_visible()

    tab_to(page, neighbours.get_by_role("spinbutton", name="neighbours"))
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    expect(cards(neighbours)).to_have_count(2 * 5)
    wanted = cards(neighbours).nth(1).get_attribute("title") or ""
    tab_to(page, cards(neighbours).nth(1))
    page.keyboard.press("Enter")
    expect(neighbours.locator(".xgap-about")).to_contain_text(wanted)
    assert focused(page)["ours"], "a card that is pressed keeps the focus"
    tab_to(page, neighbours.get_by_role("button", name="save"))
    page.keyboard.press("Enter")
    expect(neighbours.locator(".xgap-files")).to_contain_text(".svg")

    start_at(page, 2)
    tab_to(page, player.get_by_role("slider", name="step"))
    page.keyboard.press("Home")
    expect(player.locator(".xgap-about").last).to_contain_text("step 0")
    page.keyboard.press("ArrowRight")
    expect(player.locator(".xgap-about").last).to_contain_text("step 2")

    start_at(page, 3)
    run = board.get_by_role("button", name="run")
    tab_to(page, run)
    page.keyboard.press("Enter")
    expect(board.locator("button.xgap-cell")).to_have_count(2)
    expect(run).to_be_enabled()
    tab_to(page, board.get_by_role("combobox", name="figure"))
    page.keyboard.press("ArrowDown")
    expect(board.get_by_role("img")).to_be_visible()
    tab_to(page, board.get_by_role("button", name=re.compile("^OTI-I")))
    page.keyboard.press("Enter")
    expect(board.get_by_role("button", name=re.compile("OTI-I [▼▲]"))).to_be_focused()
    tab_to(page, board.locator("button.xgap-cell").nth(0))
    page.keyboard.press("Enter")
    expect(board.locator(".xgap .xgap-row").first).to_contain_text("A · I-I")

    start_at(page, 4)
    figure = tokens.get_by_role("img", name="token pairs of")
    shown = figure.get_attribute("alt") or ""
    tab_to(page, cards(tokens).nth(3))
    page.keyboard.press("Enter")
    expect(figure).not_to_have_attribute("alt", shown)

    start_at(page, 5)
    label = modalities.locator(".xgap-about b").first
    before = label.inner_text()
    tab_to(page, modalities.get_by_role("listbox", name="labels found"))
    page.keyboard.press("End")
    expect(label).not_to_have_text(before)
    assert complaints(page) == page.locator(".xgap").last.locator(".xgap-error").all_inner_texts()
    assert uncaught == []


def test_the_explorers_fit_and_are_accessible(opened: Opened) -> None:
    check_looks(six(opened[0]))


def test_no_traceback_is_overlooked(opened: Opened) -> None:
    """The check itself: of a cell, and of a button's function, which JupyterLab does not show."""
    page, uncaught = opened
    before = complaints(page)
    run_in_the_last_cell(page, "1 / 0")
    output = page.locator(".jp-Notebook .jp-CodeCell").last.locator(".jp-OutputArea-output")
    expect(output).to_contain_text("ZeroDivisionError")
    assert len(complaints(page)) > len(before)
    assert any("ZeroDivisionError" in text for text in uncaught)
    uncaught.clear()
    button = "button = widgets.panel.ipywidgets.Button(description='broken')\nbutton.on_click(lambda _: [][1])\nbutton"
    run_in_the_last_cell(page, button)
    output.get_by_role("button", name="broken").click()
    assert in_the_end(page, lambda: [] if any("IndexError" in text for text in uncaught) else ["overlooked"]) == []
    run_in_the_last_cell(page, "")
    uncaught.clear()
