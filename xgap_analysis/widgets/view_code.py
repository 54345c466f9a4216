"""The code for what each explorer shows."""

from collections.abc import Mapping, Sequence

from xgap_analysis.corrections import Correction
from xgap_analysis.experiments import COMPARISONS, Comparison, Evaluation
from xgap_analysis.scoring import COSINE, Scorer
from xgap_analysis.widgets.choices import Choices, Chosen
from xgap_analysis.widgets.recreate import by_name, comparison_code, evaluation_code, study_code, without_a_name


def rankings_code(
    evaluation: Evaluation, rows: Mapping[str, tuple[Comparison, Correction, Scorer]], query: str, k: int
) -> str:
    """A table of the k nearest items of a query: title of each row to what retrieves."""
    comparisons, corrections, scorers = zip(*rows.values(), strict=True)
    by_scorer = any(scorer != COSINE for scorer in scorers)
    given, seed = "title, comparison, by" + ", scorer" * by_scorer, evaluation.study.seeds[0]
    options = f"k={k}, seed={seed}" + ", scorer=scorer" * by_scorer
    lines = [
        ", ".join([repr(title), comparison_code(c), repr(str(by)), *([repr(str(s))] if by_scorer else [])])
        for title, (c, by, s) in rows.items()
    ]
    used = {c.name: c.name if COMPARISONS.get(c.name) == c else c for c in comparisons}
    return "\n".join(
        [
            "import pandas as pd",
            "",
            "import xgap_analysis as xg",
            "",
            *without_a_name(comparisons, corrections, scorers),
            evaluation_code(evaluation, used.values(), dict.fromkeys(map(str, corrections))),
            "rows = [",
            *(f"    ({line})," for line in lines),
            "]",
            "pd.concat(",
            "    {",
            f"        title: evaluation.ranking({query!r}, comparison, by, {options})",
            f"        for {given} in rows",
            "    },",
            '    names=["row", "place"],',
            ")",
        ]
    )


def map_code(
    evaluation: Evaluation, method: str, lambda_: float, *, classes: bool, pairs: bool, relevance: bool
) -> str:
    """The gap map and its numbers; without the parts that the dataset has no labels for."""
    parts = [
        f"evaluation.data.relevance({evaluation.study.label_set!r})" if relevance else "None",
        "*classes, evaluation.labels" if classes else "None, None",
        "evaluation.pairs(images, texts)" if pairs else "None",
    ]
    return "\n".join(
        [
            "import xgap_analysis as xg",
            "from xgap_analysis import plots",
            "from xgap_analysis.plots import maps",
            "",
            evaluation_code(evaluation, ["I-T"], ["none"]),
            'modalities = [evaluation.view("image", "all"), evaluation.view("text", "all")]',
            f"plane = maps.plane_map(*modalities, method={method!r})",
            *(['modalities.append(evaluation.view("text", "classes"))'] if classes else []),
            f"images, texts, *classes = maps.move_modalities({lambda_!r}, *modalities)",
            "plots.plane(plane.place(images), plane.place(texts))",
            'queries = [evaluation.view(modality, "queries").ids for modality in ("image", "text")]',
            f"maps.gap_numbers(images, texts, {', '.join(parts)}, queries)",
        ]
    )


def modalities_code(evaluation: Evaluation, method: str, label: str) -> str:
    """All modalities on one plane with the items of a label marked, and the gap of every pair."""
    return "\n".join(
        [
            "import xgap_analysis as xg",
            "from xgap_analysis import plots",
            "from xgap_analysis.plots import maps",
            "",
            evaluation_code(evaluation, ["I-T"], ["none"]),
            "table = evaluation.gap_table()",
            'sets = {m: evaluation.view(m, "all") for m in dict.fromkeys([*table["x"], *table["y"]])}',
            f"plane = maps.plane_map(*sets.values(), method={method!r})",
            "label_of = evaluation.labels",
            f"rows = {{m: [k for k, i in enumerate(f.ids) if label_of.get(i) == {label!r}] for m, f in sets.items()}}",
            "plots.modalities(dict(zip(sets, plane.places)), rows)",
            "table",
        ]
    )


def step_code(
    evaluation: Evaluation, modality: str, steps: Sequence[int], query: str, step: int, k: int, bins: int
) -> str:
    """The figure of an inversion at a step, and the k nearest items of an inverted query."""
    return "\n".join(
        [
            "import xgap_analysis as xg",
            "from xgap_analysis import plots",
            "from xgap_analysis.metrics import nearest_items",
            "",
            evaluation_code(evaluation, ["OTI-I" if modality == "image" else "OVI-T"], ["none"]),
            f'native, gallery = (evaluation.view({modality!r}, part) for part in ("queries", "gallery"))',
            f"inversion = evaluation.inversion(native, seed={evaluation.study.seeds[0]}, snapshots={list(steps)})",
            f"relevance = evaluation.data.relevance({evaluation.study.label_set!r})",
            f"snapshot = inversion.snapshots[{step}]",
            f"histogram = xg.similarity_histograms(snapshot, gallery, relevance, bins={bins})",
            f"plots.inversion_step(inversion, {query!r}, {step}, histogram)",
            f"nearest_items(snapshot, gallery, {query!r}, relevance, k={k})",
        ]
    )


def tokens_code(evaluation: Evaluation, comparison: Comparison, scorer: Scorer, query: str, item: str) -> str:
    """The token pairs of a query and a gallery item, and their figure."""
    part = ', ("all", "classes")' if comparison.task == "zero-shot" else ""
    items = f"evaluation.items(v.modality, {'part' if part else repr('all')})"
    given = f"zip(comparison.views, (query, item), pairs.similarities.shape{part})"
    return "\n".join(
        [
            "import xgap_analysis as xg",
            "from xgap_analysis import plots, views",
            "",
            *without_a_name([comparison], ["none"], [scorer]),
            evaluation_code(evaluation, [comparison], ["none"]),
            f"comparison = evaluation.study.comparison({comparison_code(comparison)})",
            f"query, item = {query!r}, {item!r}",
            f"pair = evaluation.pair(comparison, scorer={str(scorer)!r})",
            "pairs = xg.token_pairs(pair.query.select([query]), pair.gallery.select([item]), pair.scorer)",
            "shown = [",
            f"    views.described(evaluation.model, {items}, i, v, n)",
            f"    for v, i, n{', part' if part else ''} in {given}",
            "]",
            "plots.token_pairs(pairs, *shown)",
            "pairs.table(*(of.names for of in shown))",
        ]
    )


def board_code(choices: Choices, chosen: Chosen, figure: str | None, by: Sequence[str]) -> str:
    """The table of what is chosen, and a figure of it, if one is on screen; `by` names the lines of a grid."""
    named = _split_and_limit(choices, chosen)
    lines = f", by={list(by)!r}" if figure == "grid" else ""
    parts = [choices.parts(part, chosen[part]) for part in ("comparisons", "corrections", "scorers")]
    return "\n".join(
        [
            *(["import dataclasses", ""] if named is None else []),
            "import xgap_analysis as xg",
            *(["from xgap_analysis import plots"] if figure else []),
            "",
            *without_a_name(*parts),
            f"table = {_chosen_code(choices, chosen, named)}.run()",
            *([f"plots.{figure}(xg.main_rows(table){lines})"] if figure else []),
            "xg.main_rows(table)",
        ]
    )


def _split_and_limit(choices: Choices, chosen: Chosen) -> tuple[str, int | None] | None:
    """The one split and limit by which all chosen datasets are loaded again, or None."""
    study = choices.study
    datasets = choices.parts("datasets", chosen["datasets"])
    found = {(study.split, study.limit) if isinstance(dataset, str) else by_name(dataset) for dataset in datasets}
    return found.pop() if len(found) == 1 else None


def _chosen_code(choices: Choices, chosen: Chosen, named: tuple[str, int | None] | None) -> str:
    """The study of what is chosen: by names, or else from the study that the board was made with."""
    comparisons = choices.parts("comparisons", chosen["comparisons"])
    if named is not None:
        names = chosen["models"], chosen["datasets"]
        return study_code(choices.study, *names, comparisons, chosen["corrections"], *named, chosen["scorers"])
    places = {part: [list(choices.given[part]).index(n) for n in chosen[part]] for part in ("models", "datasets")}
    lines = [f"{part}=[study.{part}[i] for i in {at}]" for part, at in places.items()]
    lines += [f"comparisons=[{', '.join(map(comparison_code, comparisons))}]"]
    lines += [f"{part}={list(chosen[part])!r}" for part in ("corrections", "scorers")]
    comment = "# the study that the widget was made with: its datasets cannot be loaded by names and one split"
    return f"dataclasses.replace(\n    study,  {comment}\n" + "".join(f"    {line},\n" for line in lines) + ")"
