"""The one error that means "you can fix this": its message says what was expected, what came, and what to do."""

import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Iterable
from types import FrameType


class XgapError(ValueError):
    """A user's mistake, or a missing file or hub, explained in one sentence (the command line exits with code 2).

    Example:
        >>> import xgap_analysis as xg
        >>> xg.metric("retrievel")
        Traceback (most recent call last):
            ...
        xgap_analysis.core.errors.XgapError: unknown metric 'retrievel'; nearest names: retrieval
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook (and papermill) shows of this error: its sentence, and the line of the cell."""
        if debugging():
            return traceback.format_exception(self)
        cells = [frame for frame in traceback.extract_tb(self.__traceback__) if "ipykernel_" in frame.filename]
        where = [f"in line {cells[-1].lineno} of a cell: {cells[-1].line}"] if cells else []
        return [f"XgapError: {self}", *where, "(%env XGAP_DEBUG=1 shows the whole way there)"]


def debugging() -> bool:
    """Whether XGAP_DEBUG requests tracebacks of a user's mistakes, too."""
    return os.environ.get("XGAP_DEBUG", "0") != "0"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> XgapError:
    """An error for a name that is not in a table, with the nearest names that are."""
    known = sorted(known)
    within = [one for one in known if name and name.lower() in one.lower()]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or within[:5] or known[:5]
    return XgapError(f"unknown {kind} {name!r}; nearest names: {', '.join(near)}")


def missing_extra(what: str, error: ModuleNotFoundError) -> Exception:
    """An error for a part of the package whose library is not installed; one of our own modules stays as it is."""
    if error.name is None or error.name.partition(".")[0] == __name__.partition(".")[0]:
        return error
    return XgapError(f"{what} needs {error.name}, which an extra installs: pip install 'xgap-analysis[notebook]'")


def notice(text: str) -> None:
    """A warning that points to the user's own line, however deep in the package it is found."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "xgap_analysis":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
