"""What a variant board can choose from, and the study that a choice stands for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from xgap_analysis.corrections import complete_corrections
from xgap_analysis.datasets import load_dataset
from xgap_analysis.experiments import COMPARISONS, Study, main_rows
from xgap_analysis.scoring import complete_scorers, scorer
from xgap_analysis.scoring.learned import plain_learned_scorers

COLUMNS = {  # part of a study to its column in the table
    "models": "model",
    "datasets": "dataset",
    "comparisons": "comparison",
    "corrections": "correction",
    "scorers": "scorer",
}
Chosen = Mapping[str, Sequence[str]]  # part of a study to names


@dataclass(frozen=True)
class Choices:
    """The parts of a study by name, and beside them what is registered.

    Args:
        study: whose settings every choice has.
        given: part to name to what the study holds under it.
    """

    study: Study
    given: Mapping[str, Mapping[str, Any]]

    @property
    def can_fit(self) -> bool:
        """Whether every dataset has the split that learned scorers are fitted on."""
        data = (load_dataset(one) if isinstance(one, str) else one for one in self.study.datasets)
        return all(self.study.fit_split in one.splits for one in data)

    @classmethod
    def of(cls, study: Study) -> "Choices":
        """The choices that a study offers."""
        given: dict[str, Mapping[str, Any]] = {
            part: {one if isinstance(one, str) else one.name: one for one in getattr(study, part)}
            for part in ("models", "datasets", "comparisons")
        }
        given["corrections"] = {str(one): one for one in study.corrections}
        given["scorers"] = {str(scorer(one)): one for one in study.scorers}
        return cls(study, given)

    def names(self, part: str) -> list[str]:
        """What can be chosen, the study's own first."""
        offered = list(COMPARISONS) if part == "comparisons" else []
        if part == "corrections":
            offered = complete_corrections()
        if part == "scorers":
            offered = [*complete_scorers(), *(plain_learned_scorers() if self.can_fit else ())]
        return list(dict.fromkeys([*self.given[part], *offered]))

    def parts(self, part: str, names: Sequence[str]) -> list[Any]:
        """What names stand for: the study's own, or else the name itself."""
        return [self.given[part].get(name, name) for name in names]

    def narrowed(self, chosen: Chosen) -> Study:
        """The study of what is chosen."""
        parts: dict[str, Any] = {part: self.parts(part, names) for part, names in chosen.items()}
        return replace(self.study, **parts)


def shown_rows(table: pd.DataFrame, chosen: Chosen) -> pd.DataFrame:
    """The main rows of what is chosen, as far as the table has them."""
    if not len(table):
        return table
    rows = main_rows(table)
    for part, column in COLUMNS.items():
        rows = rows[rows[column].isin(chosen[part])]
    return rows.reset_index(drop=True)


def with_rows(before: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """A table with rows in the place of older ones of the same model, dataset, comparison, correction and scorer."""
    if not len(before):
        return made
    key = list(COLUMNS.values())
    new = pd.MultiIndex.from_frame(made[key])
    kept = before[~pd.MultiIndex.from_frame(before[key]).isin(new)]
    return pd.concat([kept, made], ignore_index=True) if len(kept) else made


def one_at_a_time(chosen: Chosen) -> Iterator[dict[str, Sequence[str]]]:
    """The choice of each model on each dataset."""
    for model in chosen["models"]:
        for dataset in chosen["datasets"]:
            yield {**chosen, "models": [model], "datasets": [dataset]}
