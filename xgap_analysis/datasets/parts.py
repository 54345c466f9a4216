"""What items consist of, in order: regions of an image, frames of a clip, sentences of a text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd

    from xgap_analysis.datasets.items import AnyItems


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of items, each an item itself, with the id of the item that it belongs to.

    Args:
        items: the parts, with ids of their own.
        owners: for each part, the id of its item. The parts of an item stand together, in their order.
        columns: what is known of each part, one value per part: its box, its time, the concept that it shows.

    Example:
        >>> from xgap_analysis.datasets import Texts
        >>> words = Parts(Texts(["a/0", "a/1", "b/0"], ["a bear", "a kite", "a cup"]), ["a", "a", "b"])
        >>> list(words.of(["b", "a"]).items)
        ['a cup', 'a bear', 'a kite']

    Raises:
        XgapError: another number of owners or values than of parts, or an item whose parts stand apart.
    """

    items: "AnyItems"
    owners: Sequence[str]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"owners": len(self.owners), **{name: len(values) for name, values in self.columns.items()}}
        for name, length in lengths.items():
            if length != len(self.items):
                raise XgapError(f"{len(self.items)} parts have {length} {name}; give one for each part, in their order")
        starts = [o for i, o in enumerate(self.owners) if not i or o != self.owners[i - 1]]
        if len(starts) != len(set(starts)):
            apart = next(o for i, o in enumerate(starts) if o in starts[:i])
            raise XgapError(f"the parts of item {apart!r} stand apart; list those of an item one behind the other")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def modality(self) -> str:
        """The modality of the parts, whose tower encodes them; it may be another than that of their items."""
        return self.items.modality

    @cached_property
    def places(self) -> dict[str, range]:
        """By item id, the places of its parts."""
        starts = [i for i, owner in enumerate(self.owners) if not i or owner != self.owners[i - 1]]
        ends = [*starts[1:], len(self.owners)] if starts else []
        return {self.owners[start]: range(start, end) for start, end in zip(starts, ends, strict=True)}

    def of(self, ids: Iterable[str]) -> "Parts":
        """The parts of these items, in this order.

        Raises:
            XgapError: an item without parts.
        """
        ids = tuple(ids)
        without = [i for i in ids if i not in self.places]
        if without:
            raise XgapError(f"{len(without)} items have no parts here, the first is {without[0]!r}")
        places = [place for i in ids for place in self.places[i]]
        return replace(
            self,
            items=self.items.select(self.items.ids[place] for place in places),
            owners=tuple(self.owners[place] for place in places),
            columns={name: tuple(values[place] for place in places) for name, values in self.columns.items()},
        )

    def table(self) -> "pd.DataFrame":
        """One row per part: its item (`owner`) and the columns, by the part's id."""
        import pandas as pd

        return pd.DataFrame({"owner": list(self.owners), **self.columns}, index=pd.Index(self.items.ids, name="part"))
