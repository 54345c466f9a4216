"""`--plugin`, an option of every command that looks up views, scorers, corrections, objectives, ... by name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import tyro

Plugins = tyro.conf.UseAppendAction[
    Annotated[tuple[Path, ...], tyro.conf.arg(name="plugin", metavar="FILE", help_behavior_hint="(repeatable)")]
]


def load_plugins(files: Iterable[Path]) -> None:
    """Run each file, before anything is looked up by name.

    Raises:
        XgapError: a file that is missing or raises.
    """
    from xgap_analysis.core.plugins import load_plugin

    for file in files:
        load_plugin(file)
