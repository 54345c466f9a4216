"""`xgap adapters`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Adapters:
    """List the adapters by name, with their options: what is trained in a model whose own weights stay as they are.

    Example:
        xgap adapters
        xgap adapters --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with adapters of your own, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each adapter."""
        from xgap_analysis.cli.lists import adapters, print_known

        print_known(adapters(), self.json)
        return 0
