"""`xgap adapters`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Adapters:
    """List the adapters, which are trained inside a model whose own weights stay frozen, by name, with their options.

    Example:
        xgap adapters
        xgap adapters --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with your own adapters, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each adapter."""
        from xgap_analysis.cli.lists import adapters, print_known

        print_known(adapters(), self.json)
        return 0
