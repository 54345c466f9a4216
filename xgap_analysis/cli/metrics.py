"""`xgap metrics`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Metrics:
    """List the metrics by name, with their options: what is measured of every query of a comparison.

    Example:
        xgap metrics
        xgap metrics --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with metrics of your own, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each metric."""
        from xgap_analysis.cli.lists import metrics, print_known

        print_known(metrics(), self.json)
        return 0
