"""Ablations by training: one setting of the recipe varies, all else stays equal, over several seeds.

The two that the debate turns on are in `ABLATIONS`: an intra-modal term in the objective, and the temperature that
opens and closes the modality gap. Every run sees the same images, captions, augmentations and number of steps.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.experiments.study import Study
from xgap_analysis.experiments.tables import main_rows
from xgap_analysis.metrics import detectable_effect, deviation, linear_cka, mutual_knn, rotation, seed_interval
from xgap_analysis.models import load_model
from xgap_analysis.models.tower import Model
from xgap_analysis.store import Store
from xgap_analysis.training import Recipe, train
from xgap_analysis.training.loop import trained_on
from xgap_analysis.training.objectives import objective as term
from xgap_analysis.views.encode import encode

OF_IMAGES = ("I-I", "OTI-I", "I-T", "T-I", "zero-shot", "OTI-T")
OF_TEXTS = ("T-T", "OVI-T")
RUN = ("ablation", "setting", "seed", "step")  # the columns that name a checkpoint
TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a drawing of {}")
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "intra": {f"{w:g}": {"objective": {"clip": 1.0, "image-image": w}} for w in (0, 0.25, 0.5, 1, 2)},
    "temperature": {
        **{f"{t:g}": {"temperature": t} for t in (0.01, 0.03, 0.07, 0.2, 1.0)},
        "learned": {"temperature": "learned"},
    },
}
# Two augmentations of each image in every run, so that the image-image term costs and sees nothing more.
RECIPE = Recipe(
    steps=60, batch=96, image_views=2, augmentation="simclr", templates=TEMPLATES, learning_rate=5e-4, warmup=10
)


def ablate(
    settings: str | Mapping[str, Mapping[str, Any]],
    *,
    model: str = "tiny",
    dataset: str | Dataset = "emoji",
    recipe: Recipe = RECIPE,
    seeds: Sequence[int] = (0, 1, 2),
    checkpoints: Sequence[int] = (0, 30, 60),
    limit: int | None = None,
    text_limit: int = 20,
    folder: Path | str | None = None,
    device: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Train every setting with every seed, and evaluate the checkpoints: one row for each number.

    Args:
        settings: name of a setting to the parts of the recipe that it changes; or one of `ABLATIONS` by name.
        model: where training starts, by name or path.
        dataset: trained on its split `train`, evaluated on `test`.
        recipe: what all runs have in common.
        seeds: of the batches and augmentations, and of the fresh weights if the recipe starts from such.
        checkpoints: numbers of updates after which a run is evaluated; 0 is the start.
        limit: labels that are evaluated; None evaluates all.
        text_limit: labels of the comparisons of texts, whose inversion is slow; they are made after the last update
            only. 0 leaves them out.
        folder: where runs are kept, beside the user's store by default; a killed ablation goes on there.
        device: as in `load_model`.
        workers: as in `train`.
        progress: whether a bar is shown.

    Returns:
        Columns ablation, setting, seed, step, quantity, value, low, high (95 % over groups of queries, where there is
        one), n_queries. Quantities: the main measure of each comparison (`"OTI-I"`), its paired difference from its
        baseline (`"OTI-I - I-I"`), the gap metrics of `Study.gaps`, and how far the model has come from its start
        (`changes`).

    Raises:
        XgapError: an unknown name, or no setting, seed or checkpoint.
    """
    if isinstance(settings, str) and settings not in ABLATIONS:
        raise unknown_name("ablation", settings, ABLATIONS)
    name, cases = (settings, ABLATIONS[settings]) if isinstance(settings, str) else ("settings", settings)
    if not cases or not len(seeds) or not len(checkpoints):
        raise XgapError("an ablation needs a setting, a seed and a checkpoint at least")
    whole = load_dataset(dataset) if isinstance(dataset, str) else dataset
    training, evaluated = whole.split("train"), whole.split("test")
    evaluated = evaluated if limit is None else evaluated.limit(limit)
    start, steps = load_model(model, device=device), tuple(sorted(checkpoints))
    root = Path(folder or Store().root / "runs")
    known: dict[tuple[str, int], pd.DataFrame] = {}  # every run of one start has the same first checkpoint
    tables = []
    runs = [(setting, seed) for setting in cases for seed in seeds]
    for setting, seed in tqdm(runs, desc=f"ablation {name}", unit="run", disable=not progress):
        own = replace(recipe, **cases[setting], seed=seed)
        run = root / _key(start, training, own)
        how: dict[str, Any] = {"save_every": max(1, own.steps // 2), "device": device, "workers": workers}
        train(model, training, run, own, checkpoints=steps, progress=False, **how)
        for step in steps:
            made = load_model(run / f"step-{step}", device=device)
            of_texts = text_limit if step == steps[-1] else 0
            key = (made.weights_digest, of_texts)
            if key not in known:
                known[key] = _measured(start, made, evaluated, of_texts)
            tables.append(known[key].assign(ablation=name, setting=setting, seed=seed, step=step))
    table = pd.concat(tables, ignore_index=True)
    return table[[*RUN, *(column for column in table if column not in RUN)]]


def _measured(start: Model, model: Model, data: Dataset, text_limit: int) -> pd.DataFrame:
    """The numbers of one checkpoint: scores, gap metrics, and the changes since the start."""
    study = Study([model], [data], OF_IMAGES, progress=False)
    rows = _scores(study.run())
    if text_limit:
        rows += _scores(Study([model], [data.limit(text_limit)], OF_TEXTS, progress=False).run())
    gaps = study.gaps().select_dtypes("number").drop(columns="n").iloc[0].to_dict()
    numbers = {**gaps, **changes(start, model, data)}
    return pd.DataFrame([*rows, *({"quantity": name, "value": value} for name, value in numbers.items())])


def changes(before: Model, after: Model, data: Dataset) -> dict[str, float]:
    """How far a checkpoint has come from another, on the images and texts of a dataset.

    Returns:
        for each modality, `rotation_...` (mean angle of its vectors, degrees), `bend_...` (what no rigid turn
        explains), `cka_...` and `knn_...` (whether the similarities within it are what they were); and `deviation`,
        how differently the two modalities turned. See `metrics.rotation`, `deviation`, `linear_cka`, `mutual_knn`.
    """
    numbers: dict[str, float] = {}
    features = {}
    for name, items in (("image", data.images), ("text", data.texts)):
        a, b = (encode(model, items, progress=False) for model in (before, after))
        features[name] = (a, b)
        turned = rotation(a, b)
        numbers |= {f"rotation_{name}": turned.mean_degrees, f"bend_{name}": turned.residual}
        numbers |= {f"cka_{name}": linear_cka(a, b), f"knn_{name}": mutual_knn(a, b, min(10, len(a) - 1))}
    return {**numbers, "deviation": deviation(*features["image"], *features["text"])}


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
    last = _last(table)
    means = over_seeds(last.assign(step=0)).to_dict("records")
    words = {
        (row["quantity"], row["setting"]): "{value:.{d}f} ({low:.{d}f}, {high:.{d}f})".format(**row, d=digits)
        for row in means
    }
    settings = list(dict.fromkeys(last["setting"]))
    cells = [[words.get((quantity, setting), "") for setting in settings] for quantity in quantities]
    return pd.DataFrame(cells, index=list(quantities), columns=settings)


def changes_from(table: pd.DataFrame, setting: str, quantity: str) -> pd.DataFrame:
    """How a quantity differs from one setting to each of the others, seed by seed, and what could have been seen.

    Args:
        table: from `ablate`, of one ablation; the last step of each run counts.
        setting: the one that the others are compared with.
        quantity: what is compared.

    Returns:
        indexed by setting: `change` (mean over seeds), `low`, `high` (Student's 95 % interval), `detectable` (the
        smallest change that so many seeds would detect with 80 % power; see `metrics.power`), `seeds`.

    Raises:
        XgapError: a quantity or a setting that the table does not hold.
    """
    _check_known(table, [quantity])
    if setting not in set(table["setting"]):
        raise unknown_name("setting", setting, table["setting"].unique())
    last = _last(table)
    wide = last[last["quantity"] == quantity].pivot(index="seed", columns="setting", values="value")
    rows = {}
    for other in dict.fromkeys(last["setting"]):
        if other != setting:
            change = (wide[other] - wide[setting]).dropna().to_numpy()
            mean, low, high = seed_interval(change)
            found = {"change": mean, "low": low, "high": high, "detectable": detectable_effect(change)}
            rows[other] = {**found, "seeds": len(change)}
    return pd.DataFrame(rows).T.rename_axis("setting")


def at_equal_quality(table: pd.DataFrame, quality: str = "I-T") -> pd.DataFrame:
    """One step of each run, so that all runs are about equally good by a quantity.

    A setting that trains faster is further along after as many steps. Here, for each seed, the aim is the lowest of
    the settings' last values, and each run stands at the step whose value is nearest to it.

    Args:
        table: from `ablate`.
        quality: whose values are to be equal.

    Raises:
        XgapError: a quantity that the table does not hold.
    """
    _check_known(table, [quality])
    known = table[table["quantity"] == quality]
    last = known[known["step"] == known["step"].max()]
    aim = known["seed"].map(last.groupby("seed")["value"].min())
    away = (known["value"] - aim).abs()
    chosen = known.loc[away.groupby([known["setting"], known["seed"]]).idxmin(), ["setting", "seed", "step"]]
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
    draw = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        sample = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        if len(np.unique(sample[:, 0])) > 1 and len(np.unique(sample[:, 1])) > 1:
            drawn.append(stats.spearmanr(sample[:, 0], sample[:, 1]).statistic)
    low, high = np.quantile(drawn, [0.025, 0.975])
    rho = stats.spearmanr(wide[x], wide[y]).statistic
    return {"rho": float(rho), "low": float(low), "high": float(high), "n": len(wide), "n_settings": len(groups)}


def _last(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    return table[table["step"] == table.groupby(["setting", "seed"])["step"].transform("max")]


def _check_known(table: pd.DataFrame, quantities: Sequence[str]) -> None:
    known = set(table["quantity"])
    for quantity in quantities:
        if quantity not in known:
            raise unknown_name("quantity", quantity, known)


def _scores(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row in main_rows(table).to_dict("records"):
        shared = {"n_queries": row["n_queries"]}
        value = {"value": row["value"], "low": row["low"], "high": row["high"]}
        rows.append({"quantity": row["comparison"], **value, **shared})
        if row["baseline"] != row["comparison"]:
            part = {name: row[f"difference{name}"] for name in ("", "_low", "_high")}
            value = {"value": part[""], "low": part["_low"], "high": part["_high"]}
            rows.append({"quantity": f"{row['comparison']} - {row['baseline']}", **value, **shared})
    return rows


def _key(start: Model, data: Dataset, recipe: Recipe) -> str:
    """The name of a run's folder, from the weights, what they are trained on, and how."""
    objective = {str(term(wanted)): weight for wanted, weight in recipe.objective.items() if weight}
    trained = [start.name, start.weights_digest, *trained_on(data)]
    about = json.dumps([trained, {**recipe.plain(), "objective": objective}], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:16]
