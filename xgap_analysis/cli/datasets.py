"""`xgap datasets`."""

from dataclasses import dataclass

import tyro

from xgap_analysis.cli.output import print_rows, say
from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Datasets:
    """List the datasets: queries and gallery, whether they are on disk, and where to put the files of missing ones.

    Published datasets are expected in their usual folders, inside the folder named by the environment variable
    XGAP_DATA. With names, these datasets are read, and the contents of each split are listed.

    Example:
        xgap datasets
        xgap datasets emoji oxford-pets
        xgap datasets --json
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Datasets to read, whose splits are listed."""
    plugin: Plugins = ()
    """A Python file with your own datasets, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each dataset, or for each split."""
        from xgap_analysis.datasets import inventory

        if self.names:
            rows = inventory.splits(self.names)
            if not self.json:
                for row in rows:
                    label_sets = {**row.pop("labels"), **row.pop("judgements")}
                    row["labels"] = ", ".join(f"{n} {label_set}" for label_set, n in label_sets.items())
            print_rows(rows, self.json)
            return 0
        rows = inventory.datasets()
        if self.json:
            print_rows(rows, as_json=True)
            return 0
        shown = ("dataset", "available", "queries", "gallery", "relevance")
        print_rows([{name: row[name] for name in shown} for row in rows], as_json=False)
        for row in rows:
            if row["missing"]:
                wanted = "".join(f"\n    {path}: {what}" for path, what in row["missing"].items())
                say(f"\n{row['dataset']} ({row['about']}), not on this machine: put its files here{wanted}")
        return 0
