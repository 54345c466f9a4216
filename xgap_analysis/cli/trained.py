"""Tables of `xgap study` whose models are trained first: which options they take, and how they are printed."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd

    from xgap_analysis.cli.study import Study

OF_TRAINING = ("quick", "processes")
WRITTEN = ("out", "overwrite", "json", "quiet")
TAKEN = ("table", "models", "datasets", "limit", "seeds", "steps", "device", "plugin", *OF_TRAINING, *WRITTEN)
SHOWN = ("I-T", "I-I", "OTI-I - I-I", "T-T", "misalignment_image", "misalignment_text", "modality_gap")


def is_trained(given: "Study") -> bool:
    """Whether a study is of a table that trains its models.

    Raises:
        XgapError: an option that such a table does not take, or that only such a table takes.
    """
    from xgap_analysis.experiments.recipes import ABLATIONS

    changed = [f.name for f in fields(given) if getattr(given, f.name) != f.default]
    if given.table not in ABLATIONS:
        own = [name for name in OF_TRAINING if name in changed]
        if own:
            raise XgapError(f"--{own[0]} is for a table that trains its models: --table {' or '.join(ABLATIONS)}")
        return False
    others = [name.replace("_", "-") for name in changed if name not in TAKEN]
    if others:
        known = " ".join(f"--{name}" for name in TAKEN[1:])
        raise XgapError(f"--table {given.table} trains its models and takes no --{others[0]}, but {known}")
    for name in ("models", "datasets"):
        if len(getattr(given, name) or ("one",)) != 1:
            raise XgapError(f"--table {given.table} trains from one of the {name}: give one")
    if given.processes < 1:
        raise XgapError(f"--processes is 1 or more, not {given.processes}")
    if given.processes > 1 and given.plugin:
        raise XgapError("--plugin works in one process only; leave --processes out")
    return True


def trained_table(given: "Study") -> "pd.DataFrame":
    """Train and evaluate the settings of a table; see `experiments.ablations.ablate`."""
    from xgap_analysis.experiments.ablations import ablate
    from xgap_analysis.experiments.recipes import ablation, quick

    chosen = ablation(str(given.table))
    if given.datasets and not given.quick:  # the table's own limit is of the embedded dataset
        chosen = replace(chosen, limit=None)
    chosen = quick(chosen) if given.quick else chosen
    changes: dict[str, Any] = {"limit": given.limit, "seeds": given.seeds, "inversion_steps": given.steps}
    chosen = replace(chosen, **{name: value for name, value in changes.items() if value is not None})
    model, dataset = (given.models or ("tiny",))[0], (given.datasets or ("emoji",))[0]
    table = ablate(chosen, model=model, dataset=dataset, device=given.device, processes=given.processes)
    return table.assign(ablation=given.table)


def printed(table: "pd.DataFrame", name: str) -> str:
    """The settings of a table by their changes from the control, with Student's 95 % intervals over seeds."""
    from xgap_analysis.experiments.contrasts import contrast_words
    from xgap_analysis.experiments.recipes import ablation
    from xgap_analysis.experiments.tables import as_text

    shown = [quantity for quantity in SHOWN if quantity in set(table["quantity"])]
    words = contrast_words(table, ablation(name).control, shown).reset_index()
    seeds = table["seed"].nunique()
    about = f"First the control, then changes from it (95 % over {seeds} seeds):" if seeds > 1 else "Of one seed:"
    return f"{about}\n{as_text(words.to_dict('records'))}"
