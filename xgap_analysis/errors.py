"""The one error that means "you can fix this": its message says what was expected, what came, and what to do."""

import difflib
import sys
from collections.abc import Iterable


class XgapError(ValueError):
    """A user's mistake, or a missing file or hub, told in one sentence (the command line exits with code 2 on it)."""


def users_line() -> int:
    """The `stacklevel` with which a warning, given where this is called, points at the line that called the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "xgap_analysis":
        level, frame = level + 1, frame.f_back
    return level


def unknown_name(kind: str, name: str, known: Iterable[str]) -> XgapError:
    """An error for a name that is not in a table, with the nearest names that are."""
    known = sorted(known)
    within = [one for one in known if name and name.lower() in one.lower()]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or within[:5] or known[:5]
    return XgapError(f"unknown {kind} {name!r}; nearest names: {', '.join(near)}")
