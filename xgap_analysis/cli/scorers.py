"""`xgap scorers`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Scorers:
    """List the scorers, which score a query with a gallery item, by name, with their options.

    Example:
        xgap scorers
        xgap scorers --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with your own scorers, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each scorer."""
        from xgap_analysis.cli.lists import print_known, scorers

        print_known(scorers(), self.json)
        return 0
