"""`xgap datasets`."""

from dataclasses import dataclass

from xgap_analysis.cli.output import print_rows, say


@dataclass(frozen=True)
class Datasets:
    """List the data sets with their splits and what each split holds.

    Example:
        xgap datasets
        xgap datasets --json
    """

    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each split."""
        from xgap_analysis import inventory
        from xgap_analysis.datasets import DATASETS

        rows = inventory.splits()
        if not self.json:
            for row in rows:
                row["labels"] = ", ".join(f"{n} {level}s" for level, n in row["labels"].items())
        print_rows(rows, self.json)
        if not self.json:
            say("\n" + "\n".join(f"{name}: {about}" for name, about in DATASETS.items()))
        return 0
