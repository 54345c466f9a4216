"""Code that makes an evaluation or a study again, by names where names are enough."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from xgap_analysis.core.errors import XgapError
from xgap_analysis.corrections import CORRECTIONS, Correction, correction
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.experiments import COMPARISONS, Comparison, Evaluation, Study
from xgap_analysis.scoring import SCORERS, ScoreFunction, Scorer, scorer
from xgap_analysis.views import VIEWS, View
from xgap_analysis.views.native import native

PLAIN = ("label_set", "fit_split", "seeds", "steps", "tokens", "only", "on_error", "control", "device")


def comparison_code(comparison: str | Comparison) -> str:
    """A comparison as it is written in a study: its name, or all of it where it is the user's own."""
    known = isinstance(comparison, str) or COMPARISONS.get(comparison.name) == comparison
    return repr(getattr(comparison, "name", comparison)) if known else f"xg.{comparison!r}"


def without_a_name(
    comparisons: Iterable[str | Comparison],
    corrections: Iterable[str | Correction],
    scorers: Iterable[str | Scorer | ScoreFunction],
) -> list[str]:
    """A comment for each function that code cannot name, because it is not registered."""
    views = {v for c in comparisons if isinstance(c, Comparison) for v in c.views}
    made: list[tuple[str, str]] = [("view", v.name) for v in sorted(views, key=str) if not _is_known(v)]
    made += [("correction", c.name) for c in map(correction, corrections) if c.name not in CORRECTIONS]
    made += [("scorer", s.name) for s in map(scorer, scorers) if s.name not in SCORERS]
    return [
        f"# {name!r} is a {kind} without a name: register it with xg.register_{kind}({name!r}) before this runs."
        for kind, name in dict.fromkeys(made)
    ]


def _is_known(one: View) -> bool:
    nested = [a for a in one.arguments if isinstance(a, View)]
    return (one.name in VIEWS or one.function is native) and all(map(_is_known, nested))


def study_code(
    study: Study,
    models: Sequence[str],
    datasets: Sequence[str],
    comparisons: Iterable[str | Comparison],
    corrections: Iterable[str | Correction],
    split: str | None = None,
    limit: int | None = None,
    scorers: Iterable[str | Scorer | ScoreFunction] = (),
) -> str:
    """`xg.Study(...)` with the parameters of a study, those that are not the defaults."""
    default = {f.name: f.default for f in fields(Study)}
    given = {name: getattr(study, name) for name in PLAIN if getattr(study, name) != default[name]}
    given |= {"split": split} if split not in (None, default["split"]) else {}
    given |= {"limit": limit} if limit is not None else {}
    axes = {name: list(values) for name, values in study.axes.items() if "." in name}  # settings are no cells
    given |= {"axes": axes} if axes else {}
    given |= {"precision": study.precision} if study.precision != default["precision"] else {}
    lines = [
        f"{list(models)!r}",
        f"{list(datasets)!r}",
        f"[{', '.join(map(comparison_code, comparisons))}]",
        f"{[str(by) for by in corrections]!r}",
        *([f"scorers={names}"] if (names := [str(scorer(s)) for s in scorers or study.scorers]) != ["cosine"] else []),
        *(f"{name}={value!r}" for name, value in given.items()),
        *([f"store=xg.{study.store!r}"] if study.store is not None else []),
    ]
    return "xg.Study(\n" + "".join(f"    {line},\n" for line in lines) + ")"


def evaluation_code(
    evaluation: Evaluation, comparisons: Iterable[str | Comparison], corrections: Iterable[str | Correction]
) -> str:
    """Code after which `evaluation` is an evaluation like this one."""
    found = by_name(evaluation.data)
    if found is None:
        name = evaluation.data.name
        return f"# {name!r} cannot be loaded by its name: `evaluation` is the one that the widget was made with."
    split, limit = found
    study = replace(evaluation.study, precision=evaluation.model.precision, axes={}, scorers=["cosine"])
    made = study_code(study, [evaluation.model.name], [evaluation.data.name], comparisons, corrections, split, limit)
    return f"(evaluation,) = {made}.evaluations()"


def by_name(data: Dataset) -> tuple[str, int | None] | None:
    """Split and limit by which the same items are loaded again, or None."""
    whole = data.split_name.removesuffix(", zero-shot-correct")
    found = re.fullmatch(r"(?P<split>[^\[\]]+)(\[(?P<limit>\d+)\])?", whole)
    if found is None:
        return None
    split, limit = found["split"], int(found["limit"]) if found["limit"] else None
    try:
        again = load_dataset(data.name).split(split)
    except XgapError:
        return None
    again = again if limit is None else again.limit(limit)
    same = set(data.images.ids) <= set(again.images.ids) and tuple(data.texts.ids) == tuple(again.texts.ids)
    same = same and (whole != data.split_name or tuple(data.images.ids) == tuple(again.images.ids))
    return (split, limit) if same else None
