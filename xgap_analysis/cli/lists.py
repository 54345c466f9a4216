"""What is known by name: views, scorers, corrections, metrics, objectives, recipes and adapters, with their options.

This module is heavy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xgap_analysis.cli.output import print_rows
from xgap_analysis.core.calls import spelled
from xgap_analysis.core.registry import options_of, summary_of

OFFERED = ("on_error", "store", "progress")  # to every view by the study, which has settings of these names


def views() -> list[dict[str, Any]]:
    """One row for each view: name, modality of its items, space of its features, options, control, what it is."""
    from xgap_analysis.views.view import LEADING, VIEWS

    rows = []
    for name, entry in sorted(VIEWS.items()):
        options = options_of(entry.function, LEADING)
        own = {option: value for option, value in options.items() if option not in OFFERED}
        about = {"modality": entry.modality, "space": entry.space, "options": own, "control": entry.control}
        rows.append({"view": name, **about, "about": summary_of(entry.function)})
    return rows


def scorers() -> list[dict[str, Any]]:
    """One row for each scorer: name, what it takes (see `Scorer.takes`), options, what it is."""
    from xgap_analysis.scoring.scorer import LEADING, SCORERS

    rows = []
    for name, function in sorted(SCORERS.items()):
        about = {"takes": getattr(function, "takes", None), "options": options_of(function, LEADING)}
        rows.append({"scorer": name, **about, "about": summary_of(function)})
    return rows


def corrections() -> list[dict[str, Any]]:
    """One row for each correction: name, options, what it is fitted on, whether it is a control, what it is."""
    from xgap_analysis.corrections import CORRECTIONS
    from xgap_analysis.corrections.protocol import LEADING

    rows = []
    for name, entry in sorted(CORRECTIONS.items()):
        fitted_on = "" if name == "none" else "the model" if entry.from_model else "the fit split"
        about = {"fitted_on": fitted_on, "transductive": entry.transductive, "control": entry.control}
        rows.append(
            {"correction": name, "options": options_of(entry.maker, LEADING), **about, "about": summary_of(entry.maker)}
        )
    return rows


def metrics() -> list[dict[str, Any]]:
    """One row for each metric: name, options, what it is."""
    from xgap_analysis.metrics.metric import GIVEN, LEADING, METRICS

    rows = []
    for name, function in sorted(METRICS.items()):
        options = options_of(function, LEADING)
        own = {option: value for option, value in options.items() if option not in GIVEN}
        rows.append({"metric": name, "options": own, "about": summary_of(function)})
    return rows


def objectives() -> list[dict[str, Any]]:
    """One row for each term of an objective: name, options, what it needs of a batch, what it is."""
    from xgap_analysis.training.objectives import OBJECTIVES

    rows = []
    for name, term in sorted(OBJECTIVES.items()):
        needs = term.needed
        counts = (("image", needs.images), ("caption", needs.captions))
        parts = [f"{n} {what}{'s' if n > 1 else ''}" for what, n in counts if n]
        further = (
            ("temperature", needs.scaled),
            ("teacher", needs.teacher),
            ("patches", needs.image_tokens),
            ("words", needs.text_tokens),
            ("a further modality", needs.extra),
            ("pair scores", needs.pair_scores),
        )
        parts += [word for word, needed in further if needed]
        about = {"options": term.known_options, "needs": ", ".join(parts), "trains": term.parameters is not None}
        rows.append({"objective": name, **about, "about": summary_of(term.loss)})
    return rows


def recipes() -> list[dict[str, Any]]:
    """One row for each recipe with a name: name, options, objective (of each stage), what it is."""
    from xgap_analysis.training.recipes import RECIPES, recipe

    rows = []
    for name, function in sorted(RECIPES.items()):
        stages = [" + ".join(str(term) for term, _ in own.terms) for own in recipe(name).in_turn]
        about = {"options": options_of(function, 0), "objective": ", then ".join(stages)}
        rows.append({"recipe": name, **about, "about": summary_of(function)})
    return rows


def adapters() -> list[dict[str, Any]]:
    """One row for each adapter: name, options, where it enters, whether it starts as the base, what it is."""
    from xgap_analysis.models.adaptation.adapter import ADAPTERS, LEADING

    rows = []
    for name, entry in sorted(ADAPTERS.items()):
        start = entry.starts_as_base
        starts = start if isinstance(start, bool) else ", ".join(start)
        about = {"options": options_of(entry.build, LEADING), "enters": entry.place, "starts_as_base": starts}
        rows.append({"adapter": name, **about, "about": summary_of(entry.build)})
    return rows


def print_known(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """The rows as JSON, or as a table with the options as they are written."""
    if not as_json:
        rows = [{**row, "options": spelled("", (), row["options"])[1:-1]} for row in rows]
        if rows and "modality" in rows[0]:
            ours = "of its views"
            rows = [{**row, **{part: row[part] or ours for part in ("modality", "space")}} for row in rows]
    print_rows(rows, as_json)
