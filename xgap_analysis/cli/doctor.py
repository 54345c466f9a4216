"""`xgap doctor`."""

from dataclasses import dataclass

from xgap_analysis.cli.output import print_rows


@dataclass(frozen=True)
class Doctor:
    """Check that this machine has everything that the embedded default needs.

    Example:
        xgap doctor
        xgap doctor --json
    """

    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each check; 1 if one fails."""
        from xgap_analysis.cli.checks import checks

        rows = checks()
        print_rows(rows, self.json)
        return 0 if all(row["ok"] for row in rows) else 1
