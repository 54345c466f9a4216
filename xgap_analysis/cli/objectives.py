"""`xgap objectives`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Objectives:
    """List the terms of training objectives by name, with their options.

    Example:
        xgap objectives
        xgap objectives --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with your own objectives, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each term."""
        from xgap_analysis.cli.lists import objectives, print_known

        print_known(objectives(), self.json)
        return 0
