"""Published systems that the package holds: what is built of each, under which name, and what is left out."""

import csv
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.corrections import CORRECTIONS
from xgap_analysis.metrics import METRICS
from xgap_analysis.models import ADAPTERS
from xgap_analysis.models.video import FRAME_TOWERS
from xgap_analysis.scoring import LEARNED, SCORERS
from xgap_analysis.scoring.token_maps import TOKEN_MAPS
from xgap_analysis.training import OBJECTIVES, RECIPES
from xgap_analysis.views import VIEWS

TABLE = Path(__file__).parents[1] / "systems.csv"
KINDS = ("product", "scorer", "correction", "objective", "adapter", "diagnostic", "modality")
REGISTRIES: Mapping[str, Mapping[str, Any]] = {
    "view": VIEWS,
    "scorer": SCORERS,
    "learned": LEARNED,
    "correction": CORRECTIONS,
    "metric": METRICS,
    "token_map": TOKEN_MAPS,
    "adapter": ADAPTERS,
    "objective": OBJECTIVES,
    "recipe": RECIPES,
    "frame_tower": FRAME_TOWERS,
}


@dataclass(frozen=True)
class System:
    """One published system: a row of `systems.csv`.

    Args:
        system, paper: its name, and the title of the paper.
        kind: one of `KINDS`.
        registry: the names that it is built under, separated by `; `: `correction:xbt`, or `metrics.cut:relevancy` for
            a function of this package.
        built, left_out: what there is of it, and what there is not and why.
        data: what it runs on.
        test: the test of its known result, `tests/file.py::test_name`.
    """

    system: str
    paper: str
    kind: str
    registry: str
    built: str
    left_out: str
    data: str
    test: str

    @property
    def names(self) -> list[str]:
        """The names in `registry`."""
        return self.registry.split("; ")

    def row(self) -> dict[str, str]:
        """The cells by column."""
        return asdict(self)


def systems(table: Path = TABLE) -> list[System]:
    """The rows of a table of systems, in its order.

    Raises:
        XgapError: other columns, an empty cell, an unknown kind, or a system that stands twice.

    Example:
        >>> [system.kind for system in systems() if system.system == "FILIP"]
        ['scorer']
    """
    columns = [field.name for field in fields(System)]
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != columns:
            raise XgapError(f"{table.name} has the columns {reader.fieldnames}, not {columns}")
        found = []
        for number, row in enumerate(reader, start=2):
            empty = [name for name in columns if not (row[name] or "").strip()]
            if empty or None in row:
                what = f"no {empty[0]}" if empty else "more cells than columns"
                raise XgapError(f"line {number} of {table.name} has {what}")
            found.append(System(**row))
    for system in found:
        if system.kind not in KINDS:
            raise unknown_name(f"kind of {system.system}:", system.kind, KINDS)
    names = [system.system for system in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise XgapError(f"{twice!r} stands twice in {table.name}")
    return found


def resolve(name: str) -> Any:
    """What a name of `System.registry` stands for: the entry of a registry, or a function.

    Raises:
        XgapError: an unknown name.

    Example:
        >>> resolve("scorer:cosine").__name__
        'cosine'
    """
    where, _, what = name.partition(":")
    if where in REGISTRIES:
        entry = REGISTRIES[where][what]
        return getattr(entry, "build", entry)  # of an adapter
    try:
        return getattr(importlib.import_module(f"xgap_analysis.{where}"), what)
    except (ImportError, AttributeError) as error:
        known = ", ".join(REGISTRIES)
        raise XgapError(f"{name!r} names nothing: write {known} and a name, or module:function") from error
