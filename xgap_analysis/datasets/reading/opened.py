"""Items opened and prepared one after another: what threads and processes do alike."""

from collections.abc import Callable, Sequence
from typing import Any

from xgap_analysis.datasets.images import UNREADABLE, drafted


def opened(items: Any, prepare: Callable[[Any], Any], rows: Sequence[int], edge: int = 0) -> list[Any]:
    """Each of the items in these rows as `prepare` makes it, or, in its place, the error that says why not.

    An error that damaged input does not raise (see `UNREADABLE`) is a mistake in an opener, and is raised. For
    `edge` see `drafted`.
    """

    def one(row: int) -> Any:
        try:
            return prepare(items[row])
        except UNREADABLE as error:
            return error

    with drafted(edge):
        return [one(row) for row in rows]
