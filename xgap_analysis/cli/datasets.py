"""`xgap datasets`."""

from dataclasses import dataclass

import tyro

from xgap_analysis.cli.output import print_rows, say
from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Datasets:
    """List the datasets: their queries and galleries, what is on disk, and for each missing one what to put where.

    Published datasets lie in their usual folders under the folder that the environment variable XGAP_DATA names.
    With names, those are read, and what each of their splits holds is listed.

    Example:
        xgap datasets
        xgap datasets emoji oxford-pets
        xgap datasets --json
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Datasets whose splits are listed."""
    plugin: Plugins = ()
    """A Python file with datasets of your own, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each dataset, or for each split."""
        from xgap_analysis.datasets import inventory

        if self.names:
            rows = inventory.splits(self.names)
            if not self.json:
                for row in rows:
                    label_sets = {**row.pop("labels"), **row.pop("judged")}
                    row["answers"] = ", ".join(f"{n} {label_set}" for label_set, n in label_sets.items())
            print_rows(rows, self.json)
            return 0
        rows = inventory.datasets()
        if self.json:
            print_rows(rows, as_json=True)
            return 0
        shown = ("dataset", "at_hand", "queries", "gallery", "relevance")
        print_rows([{name: row[name] for name in shown} for row in rows], as_json=False)
        for row in rows:
            if row["missing"]:
                wanted = "".join(f"\n    {path}: {what}" for path, what in row["missing"].items())
                say(f"\n{row['dataset']} ({row['about']}): put there{wanted}")
        return 0
