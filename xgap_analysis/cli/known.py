"""`xgap views`, `scorers`, `corrections`, `metrics`, `objectives` and `adapters`: what is known by name."""

from dataclasses import dataclass

from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class _Known:
    plugin: Plugins = ()
    """A Python file with your own ones, which is run first."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each: the function of `cli/lists.py` with the name of the command gives them."""
        from xgap_analysis.cli import lists

        lists.print_known(getattr(lists, type(self).__name__.lower())(), self.json)
        return 0


class Views(_Known):
    """List the views by name, with the modality of their items, the space of their features, and their options.

    A comparison is a query view and a gallery view: I-I, "oti(steps=25)-image".

    Example:
        xgap views
        xgap views --plugin my_file.py --json
    """


class Scorers(_Known):
    """List the scorers, which score a query with a gallery item, by name, with their options.

    Example:
        xgap scorers
        xgap scorers --plugin my_file.py --json
    """


class Corrections(_Known):
    """List the corrections by name, with their options and what they are fitted on.

    A control is compared with another correction; its rows in a table have no verdict.

    Example:
        xgap corrections
        xgap corrections --plugin my_file.py --json
    """


class Metrics(_Known):
    """List the metrics, which give one or more values per query of a comparison, by name, with their options.

    Example:
        xgap metrics
        xgap metrics --plugin my_file.py --json
    """


class Objectives(_Known):
    """List the terms of training objectives by name, with their options.

    Example:
        xgap objectives
        xgap objectives --plugin my_file.py --json
    """


class Adapters(_Known):
    """List the adapters, which are trained inside a model whose own weights stay frozen, by name, with their options.

    Example:
        xgap adapters
        xgap adapters --plugin my_file.py --json
    """
