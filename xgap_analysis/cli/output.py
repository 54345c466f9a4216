"""What the command line says: results on stdout, notes and warnings on stderr."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO


def say(text: str) -> None:
    """A line of result."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """A line beside the result, which a pipe does not get."""
    sys.stderr.write(f"xgap: {text}\n")


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
    note("warning: " + " ".join(str(message).split()))
