"""What a reader does: open JupyterLab, run the quickstart, look at it."""

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
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent
NOTEBOOK = "00_quickstart.ipynb"
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


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """JupyterLab on the loopback address over a copy of the notebooks: its address, token and folder."""
    folder = shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
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


@pytest.fixture
def page() -> Iterator[Page]:
    """A tall page in this machine's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 3200})
        page.set_default_timeout(START_SECONDS * 1000)
        yield page
        browser.close()


def test_the_quickstart_runs_in_jupyterlab(page: Page, lab: tuple[str, str, Path]) -> None:
    address, token, folder = lab
    uncaught: list[str] = []
    page.on("pageerror", lambda error: uncaught.append(str(error)))
    page.goto(f"{address}/lab/tree/{NOTEBOOK}?token={token}")
    idle = page.get_by_text(re.compile(r"\| Idle"))  # the status bar: before the kernel is there, it has no such word
    idle.wait_for()

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # Run All marks every cell [*] at once; after an error the cells behind it lose their mark.
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUN_SECONDS * 1000)
    expect(prompts.filter(has_text="[*]")).to_have_count(0, timeout=RUN_SECONDS * 1000)
    idle.wait_for()
    page.keyboard.press("Control+s")
    page.wait_for_timeout(2000)  # thumbnails and widgets are drawn after the kernel has ended

    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / "quickstart.png")
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts() == []
    assert page.get_by_text("Error displaying widget").count() == 0
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
