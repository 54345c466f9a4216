"""One recipe with several seeds: how far apart runs of the same training are, the scale for any difference."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.ablations import ablate
from xgap_analysis.experiments.contrasts import last_steps
from xgap_analysis.experiments.recipes import Ablation
from xgap_analysis.metrics import seed_interval
from xgap_analysis.training import Recipe
from xgap_analysis.training.recipes import recipe

COMPARISONS = ("I-T", "T-I", "I-I", "T-T")
SEEDS = (0, 1, 2)


def repeated(
    recipes: str | Recipe | Mapping[str, str | Recipe],
    *,
    seeds: tuple[int, ...] = SEEDS,
    comparisons: tuple[str, ...] = COMPARISONS,
    **how: Any,
) -> pd.DataFrame:
    """Each recipe trained with each seed and evaluated after its last step: the table of `ablate`.

    Args:
        recipes: one, by name or as it is, or several by name; those of one call have as many updates.
        seeds: of batches, augmentations and fresh weights; each replaces the recipe's own.
        comparisons: that are evaluated, beside the gap metrics and how far the model has come from its start.
        how: whatever else `ablate` takes: model, dataset, folder, limit, processes, ...

    Raises:
        XgapError: recipes of different numbers of updates, or what `ablate` refuses.

    Source: Rao et al., Where does the performance improvement come from? A reproducibility concern about image-text
    retrieval, SIGIR 2022: several claimed modules change recall by no more than seeds do.
    """
    named = recipes if isinstance(recipes, Mapping) else {recipes if isinstance(recipes, str) else "recipe": recipes}
    own = {name: recipe(wanted) if isinstance(wanted, str) else wanted for name, wanted in named.items()}
    steps = {name: of.all_steps for name, of in own.items()}
    if len(set(steps.values())) != 1:
        said = ", ".join(f"{name} {n}" for name, n in steps.items())
        raise XgapError(f"recipes that are compared have as many updates, and these have other numbers: {said}")
    parts = [f.name for f in fields(Recipe) if f.name != "seed"]
    settings = {name: {part: getattr(of, part) for part in parts} for name, of in own.items()}
    first = next(iter(own))
    chosen = Ablation(
        settings,
        first,
        own[first],
        seeds=seeds,
        checkpoints=(steps[first],),
        comparisons=comparisons,
        last_limit=0,
    )
    return ablate(chosen, **how)


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """How far apart the seeds of each setting are, at the last step of its runs.

    Formula: `std` is the standard deviation over seeds (over one less than their number). Two runs of one recipe differ
    by a number of standard deviation `of_two = sqrt(2) std`: a published difference of two single runs that is smaller
    than twice that says nothing.

    Args:
        table: from `repeated` or `ablate`.

    Returns:
        One row per setting and quantity: mean over seeds with Student's 95 % interval (`low`, `high`), `std`, `of_two`,
        `least`, `greatest`, and `seeds`. What needs two seeds is NaN for one.

    Example:
        >>> rows = [{"setting": "a", "seed": s, "step": 9, "quantity": "I-T", "value": v} for s, v in enumerate((1, 3))]
        >>> spread(pd.DataFrame(rows))[["mean", "of_two", "least", "greatest"]].iloc[0].round(3).tolist()
        [2.0, 2.0, 1.0, 3.0]
    """
    rows = []
    for (setting, quantity), own in last_steps(table).groupby(["setting", "quantity"], sort=False):
        values = own["value"].dropna().to_numpy(float)
        if not len(values):
            continue
        mean, low, high = seed_interval(values)
        std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        row = {"setting": setting, "quantity": quantity, "mean": mean, "low": low, "high": high, "std": std}
        ends = {"of_two": math.sqrt(2) * std, "least": float(values.min()), "greatest": float(values.max())}
        rows.append({**row, **ends, "seeds": len(values)})
    return pd.DataFrame(rows)


def spread_words(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of `spread` for reading: quantity, mean with its interval, and what two runs differ by."""
    several = table["setting"].nunique() > 1
    words = []
    for row in table.to_dict("records"):
        number = {name: f"{row[name]:.3f}" for name in ("mean", "low", "high", "std", "of_two", "least", "greatest")}
        named = {"setting": str(row["setting"])} if several else {}
        known = not np.isnan(row["std"])
        words.append(
            {
                **named,
                "quantity": str(row["quantity"]),
                "mean over seeds (95 %)": number["mean"] + (f" ({number['low']}, {number['high']})" if known else ""),
                "standard deviation": number["std"] if known else "",
                "of the difference of two runs": number["of_two"] if known else "",
                "least to greatest": f"{number['least']} to {number['greatest']}",
            }
        )
    return words
