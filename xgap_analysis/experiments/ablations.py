"""Ablations by training: one setting of the recipe varies, all else stays equal, over several seeds.

The two that the debate turns on are in `ABLATIONS`: an intra-modal term in the objective, and the temperature that
opens and closes the modality gap. Every run sees the same images, captions, augmentations and number of steps.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.progress import Bar
from xgap_analysis.core.seeds import generator
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.experiments.contrasts import last_steps
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.gaps import misalignment_by_anchor
from xgap_analysis.experiments.recipes import Ablation, ablation
from xgap_analysis.experiments.study import Study
from xgap_analysis.experiments.tables import main_rows
from xgap_analysis.metrics import deviation, linear_cka, mutual_knn, rotation, seed_interval
from xgap_analysis.models import load_model
from xgap_analysis.models.tower import Model
from xgap_analysis.store import Store
from xgap_analysis.training import Recipe, train
from xgap_analysis.training.loop import trained_on
from xgap_analysis.training.objectives import objective as term
from xgap_analysis.views.encode import encode

RUN = ("ablation", "setting", "seed", "step")  # the columns that name a checkpoint


@dataclass(frozen=True)
class _Bench:
    """What all runs of an ablation share; it travels to other processes, so a dataset by name stays a name."""

    chosen: Ablation
    model: str
    dataset: str | Dataset
    root: Path
    device: str | None
    workers: int

    def data(self) -> tuple[Dataset, Dataset]:
        """What is trained on, and what is evaluated."""
        whole = load_dataset(self.dataset) if isinstance(self.dataset, str) else self.dataset
        test = whole.split("test")
        return whole.split("train"), test if self.chosen.limit is None else test.limit(self.chosen.limit)

    def start(self) -> Model:
        """The model that every run starts from."""
        return load_model(self.model, device=self.device)


def ablate(
    settings: str | Ablation | Mapping[str, Mapping[str, Any]],
    *,
    model: str = "tiny",
    dataset: str | Dataset = "emoji",
    folder: Path | str | None = None,
    device: str | None = None,
    workers: int = 0,
    processes: int = 1,
    progress: bool = True,
    **changes: Any,
) -> pd.DataFrame:
    """Train every setting with every seed, and evaluate the checkpoints: one row for each number.

    Args:
        settings: one of `ABLATIONS` by name, an `Ablation`, or name of a setting to the parts of the recipe that it
            changes.
        model: where training starts, by name or path.
        dataset: trained on its split `train`, evaluated on `test`.
        folder: where runs are kept, beside the user's store by default; a killed ablation goes on there.
        device: as in `load_model`.
        workers: as in `train`.
        processes: runs at a time, each in a process of its own with one thread; 1 runs them one by one in this one.
        progress: whether a bar is shown.
        changes: of the ablation: `recipe`, `seeds`, `checkpoints`, `limit`, ... (see `Ablation`).

    Returns:
        Columns ablation, setting, seed, step, quantity, value, low, high (95 % over groups of queries, where there is
        one), n_queries (0 of a quantity that is no mean over queries), and of these groups, in one order in all runs,
        the means of the queries' values (`by_group`) and their numbers (`group_sizes`). Quantities: the main measure of
        each comparison (`"OTI-I"`), its paired difference from its baseline (`"OTI-I - I-I"`), the gap metrics of
        `Study.gaps`, and how far the model has come from its start (`changes`).

    Raises:
        XgapError: an unknown name, no setting, seed or checkpoint, or several processes for a dataset without a name.
    """
    name, chosen = settings if isinstance(settings, str) else "settings", ablation(settings, **changes)
    if processes > 1 and not isinstance(dataset, str):
        raise XgapError("with several processes each of them loads the dataset: give it by name or path")
    bench = _Bench(chosen, model, dataset, Path(folder or Store().root / "runs"), device, workers)
    start, (training, _) = bench.start(), bench.data()
    runs: dict[tuple[str, int], Recipe] = {
        (setting, seed): replace(chosen.recipe, **chosen.settings[setting], seed=seed)
        for setting in chosen.settings
        for seed in chosen.seeds
    }
    keys = {run: _key(start, training, own) for run, own in runs.items()}
    distinct = {keys[run]: own for run, own in runs.items()}  # what is one run by two names is trained once
    tasks: list[tuple[str, Recipe | None]] = [("", None), *distinct.items()]
    bar = Bar(total=len(tasks), desc=f"ablation {name}", unit="run", disable=not progress)
    found: dict[str, dict[int, pd.DataFrame | None]] = {}
    with bar:
        for key, tables in _done(bench, tasks, processes):
            found[key] = tables
            bar.update()
    made = []
    for (setting, seed), key in keys.items():
        for step, own in found[key].items():
            table = found[""][0] if own is None else own
            assert table is not None
            made.append(table.assign(ablation=name, setting=setting, seed=seed, step=step))
    table = pd.concat(made, ignore_index=True)
    return table[[*RUN, *(column for column in table if column not in RUN)]]


def _done(
    bench: _Bench, tasks: Sequence[tuple[str, Recipe | None]], processes: int
) -> Iterator[tuple[str, dict[int, pd.DataFrame | None]]]:
    """The tables of each task, as they are ready."""
    if processes < 2:
        yield from ((key, _run(bench, key, recipe)) for key, recipe in tasks)
        return
    # Spawned, as a forked child of a process that has threads or a GPU may hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin) as pool:
        waiting = [(key, pool.submit(_run, bench, key, recipe)) for key, recipe in tasks]
        try:
            yield from ((key, one.result()) for key, one in waiting)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin() -> None:
    """Of a process that takes runs: one thread, and no warning twice."""
    torch.set_num_threads(1)
    warnings.simplefilter("once")


def _run(bench: _Bench, key: str, recipe: Recipe | None) -> dict[int, pd.DataFrame | None]:
    """Train one run and measure its checkpoints; without a recipe, measure the start, where a checkpoint is that.

    A checkpoint that is the start itself, to the bit, has None in the place of a table: it is measured once for all.
    """
    chosen, start, (training, evaluated) = bench.chosen, bench.start(), bench.data()
    steps = tuple(sorted(chosen.checkpoints))
    if recipe is None:
        return {0: _measured(start, start, evaluated, chosen, steps == (0,)) if 0 in steps else None}
    run = bench.root / key
    how: dict[str, Any] = {"device": bench.device, "workers": bench.workers, "progress": False}
    train(bench.model, training, run, recipe, checkpoints=steps, save_every=max(1, recipe.steps // 2), **how)
    tables: dict[int, pd.DataFrame | None] = {}
    for step in steps:
        model = load_model(run / f"step-{step}", device=bench.device)
        same = step == 0 and model.weights_digest == start.weights_digest
        tables[step] = None if same else _measured(start, model, evaluated, chosen, step == steps[-1])
    return tables


def _measured(start: Model, model: Model, data: Dataset, chosen: Ablation, last: bool) -> pd.DataFrame:
    """The numbers of one checkpoint: scores, gap metrics, and the changes since the start."""
    study = Study([model], [data], chosen.comparisons, steps=chosen.inversion_steps, progress=False)
    (evaluation,) = study.evaluations()
    rows = _scores(evaluation)
    if last and chosen.last_limit and chosen.last_comparisons:
        slow = replace(study, datasets=[data.limit(chosen.last_limit)], comparisons=chosen.last_comparisons)
        (of_last,) = slow.evaluations()
        there = {row["quantity"] for row in rows}
        rows += [row for row in _scores(of_last) if row["quantity"] not in there]
    gaps = evaluation.gaps().select_dtypes("number").drop(columns="n").iloc[0].to_dict()
    numbers = {**gaps, **changes(start, model, data)}
    for name, value in numbers.items():
        modality = name.removeprefix("misalignment_")
        known = name != modality and modality in data.items
        anchors = misalignment_by_anchor(evaluation, modality) if known else None
        n_queries = 0 if anchors is None else int(anchors.notna().sum())
        rows.append({"quantity": name, "value": value, "n_queries": n_queries, **by_group(anchors, evaluation.labels)})
    return pd.DataFrame(rows)


def changes(before: Model, after: Model, data: Dataset) -> dict[str, float]:
    """How far a checkpoint has come from another, on the images and texts of a dataset.

    Returns:
        for each modality, `rotation_...` (mean angle of its vectors, degrees), `bend_...` (what no rigid turn
        explains), `cka_...` and `knn_...` (whether the similarities within it are what they were); and `deviation`,
        how differently the two modalities turned. Of features with other dimensions than before there are `cka_...` and
        `knn_...` alone. See `metrics.rotation`, `deviation`, `linear_cka`, `mutual_knn`.
    """
    numbers: dict[str, float] = {}
    features = {}
    for name, items in (("image", data.images), ("text", data.texts)):
        a, b = (encode(model, items, progress=False) for model in (before, after))
        features[name] = (a, b)
        if a.vectors.shape == b.vectors.shape:
            turned = rotation(a, b)
            numbers |= {f"rotation_{name}": turned.mean_degrees, f"bend_{name}": turned.residual}
        numbers |= {f"cka_{name}": linear_cka(a, b), f"knn_{name}": mutual_knn(a, b, min(10, len(a) - 1))}
    if {"rotation_image", "rotation_text"} <= numbers.keys():
        numbers["deviation"] = deviation(*features["image"], *features["text"])
    return numbers


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds of each quantity at each setting and step, with Student's 95 % interval.

    Args:
        table: from `ablate`.

    Returns:
        columns ablation, setting, step, quantity, value, low, high, seeds.
    """
    keys = ["ablation", "setting", "step", "quantity"]
    rows = []
    for key, values in table.groupby(keys, sort=False)["value"]:
        mean, low, high = seed_interval(values.to_numpy())
        rows.append(
            {**dict(zip(keys, key, strict=True)), "value": mean, "low": low, "high": high, "seeds": len(values)}
        )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, quantities: Sequence[str], digits: int = 3) -> pd.DataFrame:
    """For reading: quantities by settings, each the mean over seeds with its interval, at each run's last step.

    Args:
        table: from `ablate`, of one ablation.
        quantities: the rows, in this order.
        digits: behind the decimal point.

    Raises:
        XgapError: a quantity that the table does not hold.
    """
    _check_known(table, quantities)
    last = last_steps(table)
    means = over_seeds(last.assign(step=0)).to_dict("records")
    words = {
        (row["quantity"], row["setting"]): "{value:.{d}f} ({low:.{d}f}, {high:.{d}f})".format(**row, d=digits)
        for row in means
    }
    settings = list(dict.fromkeys(last["setting"]))
    cells = [[words.get((quantity, setting), "") for setting in settings] for quantity in quantities]
    return pd.DataFrame(cells, index=list(quantities), columns=settings)


def at_equal_quality(table: pd.DataFrame, quality: str = "I-T", control: str | None = None) -> pd.DataFrame:
    """One step of each run, so that all runs are about equally good by a quantity.

    A setting that trains faster is further along after as many steps. Here, for each seed, the aim is the last value of
    the control, or else the lowest of the settings' last values, and each run stands at the step whose value is nearest
    to it. The start is left out: it is no setting's. A run that never comes near the aim stands at its nearest all the
    same, so look at what is left of the difference in `quality` before reading any other. As steps are chosen by the
    values that are evaluated, an interval or a p-value of `quality` itself is too good, and proves no equality; a seed
    without the control is left out.

    Args:
        table: from `ablate`.
        quality: whose values are to be equal.
        control: the setting that the others are to equal.

    Raises:
        XgapError: a quantity or a setting that the table does not hold.
    """
    _check_known(table, [quality])
    known = table[(table["quantity"] == quality) & (table["step"] > 0)]
    last = known[known["step"] == known["step"].max()]
    if control is not None:
        if control not in set(last["setting"]):
            raise unknown_name("setting", control, last["setting"].unique())
        last = last[last["setting"] == control]
    aim = known["seed"].map(last.groupby("seed")["value"].min())
    away = (known["value"] - aim).abs().dropna()
    run = [known.loc[away.index, name] for name in ("setting", "seed")]
    chosen = known.loc[away.groupby(run).idxmin(), ["setting", "seed", "step"]]
    return table.merge(chosen, on=["setting", "seed", "step"])


def relation(table: pd.DataFrame, x: str, y: str, *, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Spearman's rank correlation of two quantities over runs, with a 95 % bootstrap interval over settings.

    Runs of one setting are not independent of each other, so whole settings are drawn.

    Args:
        table: rows of one step for each run.
        x, y: quantities.
        resamples, seed: of the bootstrap.

    Returns:
        `rho`, `low`, `high`, `n` (runs) and `n_settings`.

    Raises:
        XgapError: fewer than three runs with both.
    """
    _check_known(table, [x, y])
    wide = table.pivot_table(index=["ablation", "setting", "seed"], columns="quantity", values="value")
    wide = wide[[x, y]].dropna()
    if len(wide) < 3:
        raise XgapError(f"a relation needs three runs at least, and {len(wide)} have both {x!r} and {y!r}")
    groups = [part.to_numpy() for _, part in wide.groupby(["ablation", "setting"])]
    draw = generator(seed)
    drawn = []
    for _ in range(resamples):
        sample = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        if len(np.unique(sample[:, 0])) > 1 and len(np.unique(sample[:, 1])) > 1:
            drawn.append(stats.spearmanr(sample[:, 0], sample[:, 1]).statistic)
    low, high = np.quantile(drawn, [0.025, 0.975])
    rho = stats.spearmanr(wide[x], wide[y]).statistic
    return {"rho": float(rho), "low": float(low), "high": float(high), "n": len(wide), "n_settings": len(groups)}


def _check_known(table: pd.DataFrame, quantities: Sequence[str]) -> None:
    known = set(table["quantity"])
    for quantity in quantities:
        if quantity not in known:
            raise unknown_name("quantity", quantity, known)


def _scores(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The main measure of each comparison, and its difference from its baseline."""
    rows: list[dict[str, Any]] = []
    for row in main_rows(evaluation.table()).to_dict("records"):
        name, base, shared = row["comparison"], row["baseline"], {"n_queries": row["n_queries"]}
        if math.isnan(row["value"]):
            continue  # a comparison that the model cannot have: a view of tokens of a tower that has none
        value = {"value": row["value"], "low": row["low"], "high": row["high"]}
        scores = evaluation.scores(name)[row["metric"]]
        rows.append({"quantity": name, **value, **shared, **by_group(scores, evaluation.labels)})
        if base != name:
            part = {name: row[f"difference{name}"] for name in ("", "_low", "_high")}
            value = {"value": part[""], "low": part["_low"], "high": part["_high"]}
            apart = scores - evaluation.scores(base)[row["metric"]]
            rows.append({"quantity": f"{name} - {base}", **value, **shared, **by_group(apart, evaluation.labels)})
    return rows


def by_group(values: "pd.Series[float] | None", labels: Mapping[str, str]) -> dict[str, Any]:
    """The columns `by_group` and `group_sizes` of `ablate`: means and numbers of values in groups that share a label.

    Args:
        values: one a query, indexed by its id; NaN is left out. None has no groups.
        labels: of the queries; one without a label is its own group.

    Returns:
        Both columns, groups in the order of their labels; nothing where there is no value.
    """
    if values is None or not values.notna().any():
        return {}
    known = values.dropna()
    groups = known.groupby([labels.get(i, i) for i in known.index], sort=True)
    return {"by_group": groups.mean().to_numpy(np.float32), "group_sizes": groups.size().to_numpy(np.int32)}


def _key(start: Model, data: Dataset, recipe: Recipe) -> str:
    """The name of a run's folder, from the weights, what they are trained on, and how."""
    objective = {str(term(wanted)): weight for wanted, weight in recipe.objective.items() if weight}
    trained = [start.name, start.weights_digest, *trained_on(data)]
    about = json.dumps([trained, {**recipe.plain(), "objective": objective}], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:16]
