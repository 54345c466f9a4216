"""The report: run the notebooks headless, keep their pages, figures and tables, and put an index before them.

A notebook takes part by two conventions. Its first code cell has the tag `parameters` and sets `MODEL` and `DATASET`.
It writes its tables as Parquet into the folder that the environment variable `XGAP_RESULTS` names (`results` without
it); those named `study*.parquet` together make the report's `results.parquet`.
"""

import asyncio
import base64
import contextlib
import html
import itertools
import os
import platform
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import pandas as pd
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jinja2 import DictLoader
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from traitlets import default

from xgap_analysis.cli.notebook import INJECTED, is_code, read_notebook
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import Bar
from xgap_analysis.experiments.tables import main_results

WIDGET = "application/vnd.jupyter.widget-view+json"
RESULTS = "results.parquet"
NUDGE_SECONDS = 15
VERSIONS = ("xgap-analysis", "torch", "open_clip_torch", "timm")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.85rem; white-space: nowrap; }
th, td { text-align: left; padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0.5rem 1rem 0.5rem 0; vertical-align: top; max-width: 100%; }
figure img { max-width: 100%; max-height: 22rem; border: 1px solid #eee; } figcaption, .about { color: #555; }
"""
# nbconvert's page without the scripts it would fetch; formulas alone need one.
PAGE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_js_mathjax %}{% if resources.has_formulas %}{{ super() }}{% endif %}{% endblock %}
"""


class NotebookError(Exception):
    """A notebook that did not run to its end: which one, which cell and why, in one sentence."""


@dataclass(frozen=True)
class Page:
    """What one notebook gave: its title, its HTML page, its figures (file, caption) and its tables."""

    title: str
    file: Path
    figures: tuple[tuple[Path, str], ...]
    tables: tuple[Path, ...]


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        index: the page to open.
        pages: one for each notebook, in order.
        results: `results.parquet`, or None where no notebook wrote a `study*.parquet`.
        table: what it holds, with the name of the notebook in the first column.
    """

    index: Path
    pages: tuple[Page, ...]
    results: Path | None
    table: pd.DataFrame


def find_notebooks(given: Sequence[Path] = ()) -> list[Path]:
    """The notebooks that were named, or else those of the checkout (here, or around the package), by name.

    Raises:
        XgapError: none, a path that is not a notebook, or two notebooks of one name.
    """
    notebooks = list(given)
    if not notebooks:
        folders = [Path("notebooks"), Path(__file__).parent.parent.parent / "notebooks"]
        notebooks = next((found for folder in folders if (found := sorted(folder.glob("*.ipynb")))), [])
    if not notebooks:
        raise XgapError("there are no notebooks here; run this in a clone of the repository, or use --notebooks")
    for file in notebooks:
        if file.suffix != ".ipynb" or not file.is_file():
            raise XgapError(f"{str(file)!r} is not a notebook (.ipynb)")
    stems = [file.stem for file in notebooks]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise XgapError(f"two notebooks are named {twice!r}; rename one, since their pages have these names")
    return notebooks


def make_report(
    notebooks: Sequence[Path],
    out: Path | str,
    *,
    parameters: Mapping[str, Any] | None = None,
    plugins: Sequence[Path] = (),
    timeout: int = 1800,
    progress: bool = True,
) -> Report:
    """Run notebooks in order, each in its own kernel with this interpreter, and write the report.

    The folder gets `index.html`, `results.parquet`, `pages/<notebook>.html`, `notebooks/<notebook>.ipynb` (with its
    outputs), `figures/<notebook>-<n>.png` and `tables/<notebook>/*.parquet`.

    Args:
        notebooks: from `find_notebooks`; each runs in the folder it lies in, as in JupyterLab.
        out: the report's folder.
        parameters: values by name, put into a cell after the one with the tag `parameters`.
        plugins: Python files that each notebook runs first (see `load_plugin`).
        timeout: seconds that one cell may take.
        progress: show a bar over the cells.

    Raises:
        NotebookError: a cell that failed; its page is written all the same, and the sentence names both.
        XgapError: a file that is not a notebook, or one without a parameters cell although parameters are given.
    """
    out = Path(out)
    read = {file: read_notebook(file, parameters or {}, plugins) for file in notebooks}
    for folder in ("pages", "notebooks", "figures", "tables"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    pages = []
    n_cells = sum(is_code(cell) for notebook in read.values() for cell in notebook.cells)
    with Bar(total=n_cells, desc="report", unit="cell", disable=not progress) as bar:
        for file, notebook in read.items():
            bar.set_postfix_str(file.stem)
            tables = _emptied(out / "tables" / file.stem, "*.parquet")
            page = out / "pages" / f"{file.stem}.html"
            executed = out / "notebooks" / f"{file.stem}.ipynb"
            executed.unlink(missing_ok=True)  # one that fails leaves none, so that an earlier run is never shown for it
            try:
                _execute(notebook, file, tables, timeout, bar.update)
            except NotebookError as error:
                page.write_text(render(notebook, file.stem), encoding="utf-8")
                raise NotebookError(f"{error}; what it wrote so far: {page}") from error.__cause__
            page.write_text(render(notebook, file.stem), encoding="utf-8")
            nbformat.write(notebook, executed)
            figures = _write_figures(notebook, out / "figures", file.stem)
            pages.append(Page(_title(notebook, file.stem), page, figures, tuple(sorted(tables.glob("*.parquet")))))
    table = _collect(pages)
    results = out / RESULTS
    results.unlink(missing_ok=True)
    if len(table):
        table.to_parquet(results)
    index = out / "index.html"
    facts = {**(parameters or {}), **({"plug-ins": ", ".join(map(str, plugins))} if plugins else {})}
    index.write_text(_index(out, pages, table, facts), encoding="utf-8")
    return Report(index, tuple(pages), results if len(table) else None, table)


class _ThisInterpreter(AsyncKernelManager):
    """Kernels of the interpreter that runs now, whatever a kernel spec of the name `python3` elsewhere says."""

    @default("kernel_spec_manager")
    def _own_specs(self) -> KernelSpecManager:
        return _OwnSpecs(parent=self)

    @default("transport_encryption")
    def _encrypted(self) -> str:
        # Other users of this machine can listen on a loopback port.
        return "auto" if zmq.has("curve") else "disabled"


class _OwnSpecs(KernelSpecManager):
    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(), name=kernel_name)


class _Client(NotebookClient):
    """nbclient that lets Ctrl-C through, where on its own it would report a dead kernel; and that does not oversleep.

    ZeroMQ signals a new message only once. Messages are sent through a second handle of the same socket, which can
    consume that signal, in either process: then a reply or a request is waiting while both processes wait for it.
    """

    interrupted = False

    @contextlib.asynccontextmanager
    async def async_setup_kernel(self, **kwargs: Any) -> AsyncIterator[None]:
        async with super().async_setup_kernel(**kwargs):
            loop, task = asyncio.get_running_loop(), asyncio.current_task()

            def interrupt() -> None:
                self.interrupted = True
                if task is not None:
                    task.cancel()

            # Only a main thread, and no loop on Windows, takes signal handlers.
            with contextlib.suppress(RuntimeError, NotImplementedError, ValueError):
                loop.add_signal_handler(signal.SIGINT, interrupt)
            waking = asyncio.create_task(self._stay_awake())
            try:
                yield
            finally:
                waking.cancel()

    async def _stay_awake(self) -> None:
        assert self.kc is not None
        for second in itertools.count(1):
            await asyncio.sleep(1)
            for channel in (self.kc.shell_channel, self.kc.iopub_channel):
                channel.socket.get(zmq.EVENTS)  # looks whether something lies there
            if second % NUDGE_SECONDS == 0:
                self.kc.kernel_info()  # so does the kernel, at any new request; this one's reply concerns nobody


def _execute(notebook: NotebookNode, file: Path, tables: Path, timeout: int, step: Callable[[], Any]) -> None:
    """Run every cell; outputs land in the notebook."""
    at: list[NotebookNode] = []
    client = _Client(
        notebook,
        kernel_manager_class=_ThisInterpreter,
        kernel_name="python3",
        timeout=timeout,
        resources={"metadata": {"path": str(file.parent.resolve())}},
        on_cell_execute=lambda cell, cell_index: at.append(cell),
        on_cell_executed=lambda cell, cell_index, execute_reply: step(),
    )
    with tempfile.TemporaryDirectory(prefix="xgap-report-") as own:
        # MPLBACKEND would take the place of the inline backend, and no figure would reach the page.
        env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
        # A profile of its own: no start-up files of the user, no history shared with other kernels.
        env |= {"XGAP_RESULTS": str(tables.resolve()), "IPYTHONDIR": own, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        try:
            client.execute(env=env, stderr=subprocess.DEVNULL)  # errors come as messages; the rest is the kernel's log
        except (CellExecutionError, CellTimeoutError, DeadKernelError, asyncio.CancelledError) as error:
            if client.interrupted:
                raise KeyboardInterrupt from None
            code = [c for c in notebook.cells if c.cell_type == "code" and INJECTED not in c.metadata.get("tags", [])]
            place = f"notebook {file.name}"
            if at and at[-1] in code:
                first_line = at[-1].source.strip().splitlines()[0]
                place += f", code cell {1 + next(i for i, c in enumerate(code) if c is at[-1])} ({first_line})"
            raise NotebookError(f"{place}: {_reason(error, timeout)}") from error


def _reason(error: BaseException, timeout: int) -> str:
    if isinstance(error, CellExecutionError):
        said = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", error.evalue).split())
        return f"{error.ename}: {said}" if said else error.ename
    if isinstance(error, CellTimeoutError):
        return f"it took more than {timeout} seconds"
    return "its kernel died (out of memory, perhaps)"


def _emptied(folder: Path, pattern: str) -> Path:
    """The folder, without what an earlier run left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob(pattern):
        file.unlink()
    return folder


def render(notebook: NotebookNode, name: str) -> str:
    """An executed notebook as one HTML file that fetches nothing (but MathJax, where it holds formulas)."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [kept for output in cell.outputs if (kept := _without_widget(output)) is not None]
    notebook.metadata.pop("widgets", None)
    formulas = any(c.cell_type == "markdown" and re.search(r"\$[^$]+\$", c.source) for c in notebook.cells)
    exporter = HTMLExporter(extra_loaders=[DictLoader({"page.html.j2": PAGE})], template_file="page.html.j2")
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": name}, "has_formulas": formulas})
    return str(page)


def _without_widget(output: NotebookNode) -> NotebookNode | None:
    """An output as a page without a kernel can show it: progress bars go, other widgets leave a note."""
    data = output.get("data", {})
    if WIDGET not in data:
        return output
    plain = "".join(data.get("text/plain", ""))
    if re.search(r"%\||\[\d\d:\d\d", plain):
        return None
    note = "(interactive: open the notebook in JupyterLab to use it)"
    return nbformat.v4.new_output("display_data", {"text/plain": note})


def _write_figures(notebook: NotebookNode, folder: Path, name: str) -> tuple[tuple[Path, str], ...]:
    """Every PNG of the outputs as a file, with the heading of its section as its caption."""
    for old in folder.glob("*.png"):
        if re.fullmatch(re.escape(name) + r"-\d+", old.stem):
            old.unlink()
    figures: list[tuple[Path, str]] = []
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(reversed(_headings(cell.source)), heading)
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                file = folder / f"{name}-{len(figures) + 1}.png"
                file.write_bytes(base64.b64decode("".join(png)))
                figures.append((file, heading))
    return tuple(figures)


def _headings(source: str) -> list[str]:
    return [line.lstrip("#").strip() for line in source.splitlines() if re.match(r"#{1,6} ", line)]


def _title(notebook: NotebookNode, name: str) -> str:
    headings = [h for cell in notebook.cells if cell.cell_type == "markdown" for h in _headings(cell.source)]
    return headings[0] if headings else name


def _collect(pages: Sequence[Page]) -> pd.DataFrame:
    """The rows of every `study*.parquet`, with the notebook that wrote them."""
    tables = []
    for page in pages:
        for file in page.tables:
            if file.name.startswith("study"):
                table = pd.read_parquet(file)
                if "notebook" not in table:
                    table.insert(0, "notebook", page.file.stem)
                tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _index(out: Path, pages: Sequence[Page], table: pd.DataFrame, parameters: Mapping[str, Any]) -> str:
    def link(file: Path, text: str) -> str:
        return f'<a href="{_address(file.relative_to(out))}">{html.escape(text)}</a>'

    facts = [f"Python {platform.python_version()}"]
    for package in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts.append(f"{package} {metadata.version(package)}")
    facts += [f"{name} = {value}" for name, value in parameters.items()]
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    parts = [f'<p class="about">{html.escape("; ".join([made, *facts]))}</p>']
    if len(table):
        parts += [
            "<h2>Results</h2>",
            "<p>The main measure of each comparison, in [0, 1], with its 95 % interval; the difference is paired, "
            "from the comparison that <i>vs</i> names, <i>p adjusted</i> is Holm's over the tests of its study, and "
            f"<i>groups</i> counts the independent groups of queries. All rows: {link(out / RESULTS, RESULTS)}.</p>",
            _html_table(main_results(table)),
        ]
    for page in pages:
        parts.append(f"<h2>{link(page.file, page.title)}</h2>")
        for file, caption in page.figures:
            address, words = _address(file.relative_to(out)), html.escape(caption)
            image = f'<a href="{address}"><img src="{address}" alt="{words}" loading="lazy"></a>'
            parts.append(f"<figure>{image}<figcaption>{words}</figcaption></figure>")
        if page.tables:
            parts.append(f"<p>Tables: {', '.join(link(file, file.name) for file in page.tables)}</p>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>xgap report</title><style>{STYLE}</style></head><body>\n<h1>xgap report</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _html_table(rows: Sequence[Mapping[str, str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0]) if rows else ""
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(x)}</td>" for x in row.values()) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _address(file: Path) -> str:
    return quote(file.as_posix())
