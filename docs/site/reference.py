"""The pages of the reference that are made from the package: rooms, names of the registries, and the command line."""

import contextlib
import importlib
import inspect
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import xgap_analysis as xg

ROOMS = {  # what a page says before its list
    "corrections": "What is fitted before scoring. Corrections by name are listed under [names](names.md#corrections).",
    "experiments": "One model on one dataset, and grids of them.",
    "metrics": "Functions of features, never of a model. Metrics by name are listed under [names](names.md#metrics).",
    "plots": "Tables and features, drawn with matplotlib and seaborn. Each function gives the Axes it drew on.",
    "widgets": "Explorers for notebooks. Each is an ipywidgets box: the last expression of a cell shows it.",
    "views": "How items become features. Views by name are listed under [names](names.md#views).",
    "scoring": "How a pair is scored. Scorers by name are listed under [names](names.md#scorers).",
    "datasets": "Items, label sets and splits, and the readers of embedded, published and local data.",
    "models": "Towers, checkpoints and adapters. Adapters by name are listed under [names](names.md#adapters).",
    "training": "Recipes, objectives and the loop. Objectives by name are listed under [names](names.md#objectives).",
    "store": "Features on disk, found again by content.",
}
HEADINGS = {"modality": "items", "fitted_on": "fitted on"}


def pages() -> dict[str, str]:
    """File to text."""
    rooms = {f"{room}.md": room_page(room) for room in ROOMS}
    return {
        **rooms,
        "names.md": names_page(),
        "systems.md": systems_page(),
        "command-line.md": commands_page(),
    }


def own_names(room: str) -> Iterator[tuple[str, Any]]:
    """The public names of a room that `xg` itself does not have."""
    module = importlib.import_module(f"xgap_analysis.{room}")
    for name, value in sorted(vars(module).items(), key=lambda one: one[0].lower()):
        if name.startswith("_") or inspect.ismodule(value) or getattr(value, "__module__", "") == "typing":
            continue
        if name not in xg._HOME:
            yield name, value


def room_page(room: str) -> str:
    """Every name of a room: those of `xg` as links, the others here."""
    module = importlib.import_module(f"xgap_analysis.{room}")
    shared = [name for name in dir(module) if name in xg._HOME and getattr(xg, name) is getattr(module, name)]
    lines = [f"# xg.{room}" if room in xg._ROOMS else f"# xgap_analysis.{room}", "", ROOMS[room], ""]
    if shared:
        lines += ["With pages of their own: " + ", ".join(f"`xg.{name}`" for name in shared) + ".", ""]
    lines += ["```{eval-rst}", f".. currentmodule:: xgap_analysis.{room}", ""]
    for name, value in own_names(room):
        if inspect.isclass(value):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {name}", ""]
        else:
            lines += [f".. autodata:: {name}", "   :no-value:", ""]
    return "\n".join([*lines, "```", ""])


def names_page() -> str:
    """What the registries know, with options and the first sentence of each."""
    from xgap_analysis.cli import lists

    lines = [
        "# Names",
        "",
        "Everything that has a name in studies, on the command line and in the explorers, with its options and their "
        "defaults. `xgap views`, `xgap scorers` and so on print the same, with your own among them (`--plugin`).",
        "",
    ]
    for kind in ("views", "scorers", "corrections", "metrics", "objectives", "adapters"):
        lines += [f"## {kind.capitalize()}", "", *_table(getattr(lists, kind)()), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    heads = list(rows[0])
    lines = ["| " + " | ".join(HEADINGS.get(head, head) for head in heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(_cell(head, row[head]) for head in heads) + " |" for row in rows]


def _cell(head: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{name}={option}`" for name, option in value.items()).replace("|", "\\|")
    if isinstance(value, bool) or value is None:
        return "yes" if value else ""
    text = str(value).replace("|", "\\|")
    return text if head == "about" or not text or " " in text else f"`{text}`"


def systems_page() -> str:
    """The published systems, as `xgap systems` prints them, with their papers."""
    from xgap_analysis.experiments.systems import systems

    lines = [
        "# Published systems",
        "",
        "What is built here of each published system, under which name, and what is left out and why. "
        "`xgap systems` prints the same.",
        "",
    ]
    for one in systems():
        names = ", ".join(f"`{name}`" for name in one.names)
        lines += [f"## {one.system}", "", f"*{one.paper}*. {one.kind.capitalize()}: {names}.", ""]
        lines += [f"Built: {one.built}.", ""] + ([f"Left out: {one.left_out}.", ""] if one.left_out else [])
    return "\n".join(lines)


def commands_page() -> str:
    """The help of every command."""
    from xgap_analysis.cli.command import COMMANDS, main

    lines = ["# Command line", "", "`xgap COMMAND --help` prints what stands here.", ""]
    for name in COMMANDS:
        lines += [f"## xgap {name}", "", "```text", _help(main, name), "```", ""]
    return "\n".join(lines)


def _help(main: Callable[..., Any], command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).rstrip()
