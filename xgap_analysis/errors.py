"""The one error that means "you can fix this": its message says what was expected, what came, and what to do."""

import difflib
from collections.abc import Iterable


class XgapError(ValueError):
    """A user's mistake, or a missing file or hub, told in one sentence (the command line exits with code 2 on it)."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> XgapError:
    """An error for a name that is not in a table, with the nearest names that are."""
    known = sorted(known)
    within = [one for one in known if name and name.lower() in one.lower()]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or within[:5] or known[:5]
    return XgapError(f"unknown {kind} {name!r}; nearest names: {', '.join(near)}")
