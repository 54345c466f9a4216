"""Ablations by training: one setting of the recipe varies, all else stays equal, over several seeds.

The two that the debate turns on are in `ABLATIONS`: an intra-modal term in the objective, and the temperature that
opens and closes the modality gap. Every run sees the same images, captions, augmentations and number of steps.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from xgap_analysis.views.encode import encode

IMAGE_SIDE = ("I-I", "OTI-I", "I-T", "T-I", "zero-shot", "OTI-T")
TEXT_SIDE = ("T-T", "OVI-T")
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


@dataclass(frozen=True)
class Ablation:
    """One setting of a recipe, several values of it, several seeds.

    Args:
        settings: name of a setting to the parts of the recipe that it changes; or one of `ABLATIONS` by name.
        model: where training starts, by name or path.
        dataset: by name; trained on its split `train`, judged on `test`.
        recipe: what all runs have in common.
        seeds: of the batches and augmentations, and of the fresh weights if the recipe starts from such.
        checkpoints: numbers of updates after which a run is judged; 0 is the start.
        limit: labels that are judged; None judges all.
        text_limit: labels of the text side, whose inversion is slow; it is judged after the last update only. 0 leaves
            it out.
        folder: where runs are kept, beside the user's store by default; a killed ablation goes on there.

    Raises:
        XgapError: an unknown name, or no setting, seed or checkpoint.
    """

    settings: str | Mapping[str, Mapping[str, Any]]
    model: str = "tiny"
    dataset: str | Dataset = "emoji"
    recipe: Recipe = RECIPE
    seeds: Sequence[int] = (0, 1, 2)
    checkpoints: Sequence[int] = (0, 30, 60)
    limit: int | None = None
    text_limit: int = 20
    folder: Path | str | None = None
    device: str | None = None
    workers: int = 0
    progress: bool = True
    # Not an argument, so that a copy with other data or another limit (`replace`) begins with nothing kept.
    _measured: dict[tuple[str, bool], list[dict[str, Any]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if isinstance(self.settings, str) and self.settings not in ABLATIONS:
            raise unknown_name("ablation", self.settings, ABLATIONS)
        if not self.cases or not len(self.seeds) or not len(self.checkpoints):
            raise XgapError("an ablation needs a setting, a seed and a checkpoint at least")

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.settings if isinstance(self.settings, str) else "settings"

    @property
    def cases(self) -> Mapping[str, Mapping[str, Any]]:
        """Name of a setting to what it changes."""
        return ABLATIONS[self.settings] if isinstance(self.settings, str) else self.settings

    def run(self) -> pd.DataFrame:
        """Train and judge every run; one row for each number.

        Columns: ablation, setting, seed, step, quantity, value, low, high (95 % over groups of queries, where there is
        one), n_queries. Quantities: the main measure of each comparison (`"OTI-I"`), its paired difference from its
        baseline (`"OTI-I - I-I"`), the gap metrics of `Study.gaps`, and how far the model has come from its start
        (`changes`).
        """
        whole = load_dataset(self.dataset) if isinstance(self.dataset, str) else self.dataset
        judged = whole.split("test") if self.limit is None else whole.split("test").limit(self.limit)
        training = whole.split("train")
        start = load_model(self.model, device=self.device)
        runs = [(setting, seed) for setting in self.cases for seed in self.seeds]
        tables = []
        for setting, seed in tqdm(runs, desc=f"ablation {self.name}", unit="run", disable=not self.progress):
            recipe = replace(self.recipe, **self.cases[setting], seed=seed)
            folder = Path(self.folder or Store().root / "runs") / _key(start, training, recipe)
            steps = tuple(sorted(self.checkpoints))
            train(
                self.model,
                training,
                folder,
                recipe,
                checkpoints=steps,
                save_every=max(1, recipe.steps // 2),
                device=self.device,
                workers=self.workers,
                progress=False,
            )
            for step in steps:
                model = load_model(folder / f"step-{step}", device=self.device)
                rows = self._measure(model, start, judged, texts=step == steps[-1])
                about = {"ablation": self.name, "setting": setting, "seed": seed, "step": step}
                tables.append(pd.DataFrame(rows).assign(**about))
        table = pd.concat(tables, ignore_index=True)
        return table[[*about, *(column for column in table if column not in about)]]

    def _measure(self, model: Model, start: Model, data: Dataset, texts: bool) -> list[dict[str, Any]]:
        key = (model.weights_digest, texts)  # every run of one start has the same first checkpoint
        if key not in self._measured:
            image_side = Study([model], [data], IMAGE_SIDE, progress=False)
            rows = _scores(image_side.run())
            if texts and self.text_limit:
                rows += _scores(Study([model], [data.limit(self.text_limit)], TEXT_SIDE, progress=False).run())
            gaps = image_side.gaps().select_dtypes("number").drop(columns="n").iloc[0].to_dict()
            numbers = {**gaps, **changes(start, model, data)}
            rows += [{"quantity": name, "value": value} for name, value in numbers.items()]
            self._measured[key] = rows
        return self._measured[key]


def changes(before: Model, after: Model, data: Dataset) -> dict[str, float]:
    """How far a checkpoint has come from another, on the images and texts of a data set.

    Returns:
        for each side, `rotation_...` (mean angle of its vectors, degrees), `bend_...` (what no rigid turn explains),
        `cka_...` and `knn_...` (whether the side's own similarities are what they were); and `deviation`, how
        differently the two sides turned. See `metrics.rotation`, `deviation`, `linear_cka` and `mutual_knn`.
    """
    told: dict[str, float] = {}
    sides = {}
    for name, items in (("image", data.images), ("text", data.texts)):
        a, b = (encode(model, items, progress=False) for model in (before, after))
        sides[name] = (a, b)
        turned = rotation(a, b)
        told |= {f"rotation_{name}": turned.mean_degrees, f"bend_{name}": turned.residual}
        told |= {f"cka_{name}": linear_cka(a, b), f"knn_{name}": mutual_knn(a, b, min(10, len(a) - 1))}
    return {**told, "deviation": deviation(*sides["image"], *sides["text"])}


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds of each quantity at each setting and step, with Student's 95 % interval.

    Args:
        table: from `Ablation.run`.

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
        table: from `Ablation.run`, of one ablation.
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
        table: from `Ablation.run`, of one ablation; the last step of each run counts.
        setting: the one that the others are compared with.
        quantity: what is compared.

    Returns:
        indexed by setting: `change` (mean over seeds), `low`, `high` (Student's 95 % interval), `detectable` (the
        smallest change that so many seeds would tell from zero four times out of five; see `metrics.power`), `seeds`.

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
            told = {"change": mean, "low": low, "high": high, "detectable": detectable_effect(change)}
            rows[other] = {**told, "seeds": len(change)}
    return pd.DataFrame(rows).T.rename_axis("setting")


def at_equal_quality(table: pd.DataFrame, quality: str = "I-T") -> pd.DataFrame:
    """One step of each run, so that all runs are about equally good by a quantity.

    A setting that trains faster is further along after as many steps. Here, for each seed, the aim is the lowest of
    the settings' last values, and each run stands at the step whose value is nearest to it.

    Args:
        table: from `Ablation.run`.
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
    """A folder's name that follows from what is run there: the weights, what they are trained on, and how."""
    objective = {name: weight for name, weight in recipe.objective.items() if weight}
    trained = [start.name, start.weights_digest, *trained_on(data)]
    about = json.dumps([trained, {**asdict(recipe), "objective": objective}], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:16]
