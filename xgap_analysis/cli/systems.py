"""`xgap systems`."""

from dataclasses import dataclass

COLUMNS = ("system", "kind", "registry", "built", "left_out")


@dataclass(frozen=True)
class Systems:
    """List the published systems that are implemented: the name of each, what is built, what is left out and why.

    Example:
        xgap systems
        xgap systems --json
    """

    json: bool = False
    """Print JSON, including the papers, the data and the tests."""

    def run(self) -> int:
        """Print one row for each system."""
        from xgap_analysis.cli.output import print_rows
        from xgap_analysis.experiments.systems import systems

        rows = [system.row() for system in systems()]
        print_rows(rows if self.json else [{name: row[name] for name in COLUMNS} for row in rows], self.json)
        return 0
