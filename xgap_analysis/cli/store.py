"""`xgap store`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from xgap_analysis.cli.arguments import Name
from xgap_analysis.cli.output import note, print_rows
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    from xgap_analysis.store import Store as Opened


@dataclass(frozen=True)
class Store:
    """List, verify or remove entries of the feature store, print its size, or make it smaller (prune).

    Example:
        xgap store list
        xgap store verify
        xgap store remove 3f9a
        xgap store prune --max-size 20GB --dry-run
    """

    action: tyro.conf.Positional[Literal["list", "verify", "remove", "size", "prune"]]
    """What to do."""
    key: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="KEY")] = ""
    """The first digits of an entry's key: required for remove, optional for verify."""
    max_size: Name = None
    """With prune: the size that the store may have, such as 20GB; the least recently used entries are removed first.
    Without it, prune removes only what nothing reads: entries of an older format, and files of dead processes."""
    dry_run: bool = False
    """With prune: remove nothing, and print what would be removed."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Run the action; 1 if something is damaged."""
        from xgap_analysis.store import Store

        if self.action != "prune" and (self.max_size is not None or self.dry_run):
            raise XgapError(f"--max-size and --dry-run belong to xgap store prune, not to {self.action}")
        if self.action in ("list", "size", "prune") and self.key:
            raise XgapError(f"xgap store {self.action} takes no key, and {self.key!r} was given")
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
        elif self.action == "prune":
            self._prune(store)
        else:
            if not self.key:
                raise XgapError("say which entry to remove, by the first digits of its key (see xgap store list)")
            store.remove(self.key)
            note(f"removed {self.key}")
        return 0

    def _prune(self, store: "Opened") -> None:
        from xgap_analysis.store import prune
        from xgap_analysis.store.pruning import parse_size

        limit = None if self.max_size is None else parse_size(self.max_size)
        pruned = prune(store, limit, dry_run=self.dry_run)
        rows = [{"removed": one.what[:12], "MB": f"{one.n_bytes / 1e6:.1f}", "because": one.reason} for one in pruned]
        if rows or self.json:
            print_rows([asdict(one) for one in pruned] if self.json else rows, self.json)
        gone = sum(one.n_bytes for one in pruned)
        done, left = ("would be removed", store.size() - gone) if self.dry_run else ("removed", store.size())
        note(f"{len(pruned)} {done}, {gone / 1e6:.1f} MB; the store has {max(left, 0) / 1e6:.1f} MB then")


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
