"""`xgap corrections`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Corrections:
    """List the corrections by name, with their options and what they are fitted on.

    A control is compared with another correction; its rows in a table have no verdict.

    Example:
        xgap corrections
        xgap corrections --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with your own corrections, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each correction."""
        from xgap_analysis.cli.lists import corrections, print_known

        print_known(corrections(), self.json)
        return 0
