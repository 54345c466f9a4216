"""`xgap study --table atlas`: which options it takes, and how it is printed."""

from dataclasses import fields
from typing import TYPE_CHECKING

from xgap_analysis.cli.trained import WRITTEN
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd

    from xgap_analysis.cli.study import Study

NAME = "atlas"
TAKEN = ("table", "models", "datasets", "limit", "device", "plugin", "quick", *WRITTEN)


def is_atlas(given: "Study") -> bool:
    """Whether a study is the atlas of published systems.

    Raises:
        XgapError: an option that the atlas does not take, or several models or datasets.
    """
    if given.table != NAME:
        return False
    others = [f.name for f in fields(given) if getattr(given, f.name) != f.default and f.name not in TAKEN]
    if others:
        known, other = " ".join(f"--{name}" for name in TAKEN[1:]), others[0].replace("_", "-")
        raise XgapError(f"--table {NAME} compares systems as they are and takes no --{other}, but {known}")
    for name in ("models", "datasets"):
        if len(getattr(given, name) or ("one",)) != 1:
            raise XgapError(f"--table {NAME} is of one of the {name}: give one")
    return True


def atlas_table(given: "Study") -> "pd.DataFrame":
    """The atlas of the model and dataset that are named; see `experiments.atlas.atlas`."""
    from xgap_analysis.experiments.atlas import atlas

    model, dataset = (given.models or ("tiny",))[0], (given.datasets or (None,))[0]
    return atlas(model, dataset=dataset, limit=given.limit, quick=given.quick, device=given.device)


def printed(table: "pd.DataFrame") -> str:
    """Systems by quantities, then the systems without a row, each with the reason."""
    from xgap_analysis.experiments.atlas import atlas_words, left_out
    from xgap_analysis.experiments.tables import as_text

    about = "Changes with 95 % intervals; * a verdict, · not acted on, empty: not defined."
    reasons = [{"without a row": name, "because": reason} for name, reason in left_out(table).items()]
    return f"{about}\n{as_text(atlas_words(table).reset_index().to_dict('records'))}\n\n{as_text(reasons)}"
