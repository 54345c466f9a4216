"""`xgap store`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro

from xgap_analysis.cli.output import note, print_rows
from xgap_analysis.core.errors import XgapError


@dataclass(frozen=True)
class Store:
    """List, verify or remove entries of the feature store, or print its size.

    Example:
        xgap store list
        xgap store verify
        xgap store remove 3f9a
    """

    action: tyro.conf.Positional[Literal["list", "verify", "remove", "size"]]
    """What to do."""
    key: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="KEY")] = ""
    """The first digits of an entry's key: required for remove, optional for verify."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Run the action; 1 if something is damaged."""
        from xgap_analysis.store import Store

        store = Store()
        if self.action == "list":
            entries = [asdict(entry) for entry in store.entries()]
            print_rows(entries if self.json else [_entry_words(entry) for entry in entries], self.json)
        elif self.action == "size":
            size = {"root": str(store.root), "entries": len(store.entries()), "bytes": store.size()}
            print_rows([size], self.json)
        elif self.action == "verify":
            damages = [asdict(damage) for damage in store.verify(self.key or None)]
            if damages or self.json:
                print_rows(damages, self.json)
            note(f"{len(damages)} damaged files" + ("; the next run computes them again" if damages else ""))
            return 1 if damages else 0
        else:
            if not self.key:
                raise XgapError("say which entry to remove, by the first digits of its key (see xgap store list)")
            store.remove(self.key)
            note(f"removed {self.key}")
        return 0


def _entry_words(entry: Mapping[str, Any]) -> dict[str, Any]:
    from xgap_analysis.store.keys import FORMAT

    made_of = entry["provenance"]
    return {
        "key": entry["key"][:12],
        "view": made_of.get("view", "?"),
        "model": entry["notes"].get("model") or made_of.get("model", "?"),
        "items": entry["n_items"] if entry["format"] == FORMAT else "of an older version, no longer read",
        "unreadable": entry["n_failed"],
        "MB": f"{entry['n_bytes'] / 1e6:.1f}",
        "created": entry["created"],
    }
