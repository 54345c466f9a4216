"""`xgap metrics`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Metrics:
    """List the metrics, which give one or more values per query of a comparison, by name, with their options.

    Example:
        xgap metrics
        xgap metrics --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with your own metrics, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each metric."""
        from xgap_analysis.cli.lists import metrics, print_known

        print_known(metrics(), self.json)
        return 0
