"""What the command line says: results on stdout, notes and warnings on stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TextIO

from xgap_analysis.core.progress import watched

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


def say(text: str) -> None:
    """A line of result."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """A line beside the result, which a pipe does not get; nothing where the command is to be quiet."""
    if not _QUIET.get():
        complain(text)


def complain(text: str) -> None:
    """A line about a mistake or a doubt, also of a quiet command."""
    sys.stderr.write(f"xgap: {text}\n")


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """A command without notes and progress, if that is wished."""
    token = _QUIET.set(quiet)
    try:
        with watched(lambda *_: None) if quiet else nullcontext():
            yield
    finally:
        _QUIET.reset(token)


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """A table, as aligned columns or as a JSON list of objects."""
    if as_json:
        say(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    from xgap_analysis.experiments.tables import as_text

    say(as_text(rows))


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, in place of `warnings.showwarning`."""
    complain("warning: " + " ".join(str(message).split()))
