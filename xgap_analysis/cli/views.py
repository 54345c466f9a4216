"""`xgap views`."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Views:
    """List the views by name, with the modality of their items, the space of their features, and their options.

    A comparison is a query view and a gallery view: I-I, "oti(steps=25)-image".

    Example:
        xgap views
        xgap views --plugin my_file.py --json
    """

    plugin: Plugins = ()
    """A Python file with your own views, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each view."""
        from xgap_analysis.cli.lists import print_known, views

        print_known(views(), self.json)
        return 0
