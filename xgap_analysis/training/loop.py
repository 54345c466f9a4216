"""The training loop: from a model by name to a folder of open_clip checkpoints, resumed after a kill."""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import Bar
from xgap_analysis.core.writing import written_whole
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.metrics import modality_gap, retrieval
from xgap_analysis.models.adaptation import ADAPTERS
from xgap_analysis.models.adaptation import adapter as as_adapter
from xgap_analysis.models.adapters.openclip import weights_digest
from xgap_analysis.models.captions import warn_of_cut
from xgap_analysis.models.tower import Model
from xgap_analysis.models.trainable import Trainable, load_trainable
from xgap_analysis.training.captions import captions_of, nearest
from xgap_analysis.training.given import Further, GivenScores
from xgap_analysis.training.pairs import Pairs, Unreadable, augmentation
from xgap_analysis.training.progress import Progress, Stage, checkpoint, is_kept
from xgap_analysis.training.recipe import Recipe
from xgap_analysis.views.encode import encode

RUN, CURVE = "run.json", "curve.parquet"


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Args:
        folder: holds everything below, and a folder `step-<n>` for each requested checkpoint.
        last, best: open_clip directories, for `load_model`.
        curve: a row for each noted step: the terms, loss, scale and gap of that step's batch, and, where the model was
            evaluated, the columns of `evaluate`. `stage` is the number of the stage, from 0, where there are several.
        towers: of further modalities, as they are after the last update; they lie in no checkpoint.
    """

    folder: Path
    last: Path
    best: Path
    curve: pd.DataFrame
    towers: Mapping[str, nn.Module] = field(default_factory=dict)


def train(
    model: str | Path,
    data: Dataset,
    out: Path | str,
    recipe: Recipe | None = None,
    *,
    further: Mapping[str, Further] | None = None,
    pair_scores: GivenScores | None = None,
    eval_data: Dataset | None = None,
    eval_every: int | None = None,
    checkpoints: tuple[int, ...] = (),
    save_every: int = 200,
    note_every: int = 10,
    device: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Trained:
    """Train a model, from fresh weights or from those it has.

    The same call goes on where a killed run stopped, with the same weights to the bit on one device: all that is drawn
    follows from the seed and the step's number, and a run with stages goes on in the right one. A checkpoint that lies
    behind that place and was not kept is made by training from the first update again, with a warning.

    Args:
        model: by name or path, as `load_model` takes it.
        data: images and texts whose default label says which belong together.
        out: the run's folder.
        recipe: how; the defaults of `Recipe` if None.
        further: modalities beside images and texts, by name, for terms that read them.
        pair_scores: given scores of image-text pairs, for terms that read them.
        eval_data: the validation split that the model is evaluated on during training and `best` is chosen by.
        eval_every: steps between two evaluations; if None, only the last step is evaluated.
        checkpoints: numbers of updates after which the model is kept as `step-<n>`.
        save_every: steps between two saved states; a killed run loses at most so many.
        note_every: steps between two rows of the curve.
        device: CUDA where there is one, else the CPU.
        workers: processes that load images; 0 loads them here. The result does not depend on it.
        progress: show a bar.

    Raises:
        XgapError: a folder that holds another run, labels that do not suffice, an image that cannot be read, or a loss
            that is not a number.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji").split("val").limit(8)
        >>> recipe = xg.Recipe(steps=1, batch=4, warmup=0)
        >>> trained = xg.train("tiny-untrained", data, "run", recipe)
        >>> trained.last.name, len(trained.curve) > 0
        ('last', True)
    """
    recipe, out = recipe or Recipe(), Path(out)
    recipes, steps = recipe.in_turn, recipe.all_steps
    if any(not 0 <= step <= steps for step in checkpoints):
        raise XgapError(f"checkpoints are numbers of updates from 0 to {steps}, not {sorted(checkpoints)}")
    start = _start(model, recipe, device)
    if any(own.n_captions for own in recipes):
        warn_of_cut(start.name, start.tokenize, data.texts.captions)
    further = {name: own.copied() for name, own in (further or {}).items()}  # what is given stays as it is
    stages = [Stage(own, _pairs(start, data, own, further, pair_scores)) for own in recipes]
    _claim(out, _run(start, data, recipe, {k: v for stage in stages for k, v in stage.pairs.given.items()}))
    with torch.random.fork_rng():
        run = Progress(start, stages, out)
        run.restore(checkpoints)
        began = time.monotonic() - run.seconds
        if run.step in checkpoints and not is_kept(out, run.step):
            start.save(checkpoint(out, run.step))
        with Bar(total=steps, initial=run.step, desc="train", unit="step", disable=not progress) as bar:
            for batch in run.batches(workers):
                if isinstance(batch, Unreadable):
                    what = f"image {batch.item!r} of {data.name!r} ({data.split_name}) cannot be read ({batch.reason})"
                    raise XgapError(f"{what}; repair it or take it out of the training data, and run this again")
                values = run.update(batch)
                bar.update()
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                last = run.step == steps
                evaluating = eval_data is not None and (last or (eval_every and run.step % eval_every == 0))
                if evaluating and eval_data is not None:
                    values |= evaluate(start.frozen(), eval_data)
                    score = values.get("image_to_text", values.get("image_to_image", -math.inf))
                    if score > run.best:
                        run.best = score
                        start.save(out / "best")
                run.seconds = time.monotonic() - began
                if evaluating or last or run.step % note_every == 0:
                    run.curve.append({"step": run.step, "seconds": run.seconds, **values})
                if run.step in checkpoints:
                    start.save(checkpoint(out, run.step))
                if last or run.step % save_every == 0:
                    start.save(out / "last")
                    run.save()
    curve = pd.DataFrame(run.curve)
    curve.to_parquet(out / CURVE)
    best = out / "best"
    towers = {name: own.tower for name, own in further.items()}
    return Trained(out, out / "last", best if best.is_dir() else out / "last", curve, towers)


def _start(model: str | Path, recipe: Recipe, device: str | None) -> Trainable:
    """The model that training starts from, set up for what the recipe makes of it."""
    if recipe.adapter is not None and as_adapter(recipe.adapter).name not in ADAPTERS:
        what = f"adapter {as_adapter(recipe.adapter)} has no name, by which the trained model could be loaded"
        raise XgapError(f"{what}: decorate its function with register_adapter")
    start = load_trainable(model, device=device, scratch=recipe.scratch, seed=recipe.seed, adapter=recipe.adapter)
    if not any(own.n_captions for own in recipe.in_turn):
        start.image_only()
    if any(term.needed.biased for own in recipe.in_turn for term, _ in own.terms):
        start.shape.setdefault("init_logit_bias", -10.0)
    return start


def _pairs(
    start: Trainable,
    data: Dataset,
    recipe: Recipe,
    further: Mapping[str, Further] | None,
    pair_scores: GivenScores | None,
) -> Pairs:
    """What the steps of one stage look at."""
    change = augmentation(start.module, start.preprocess, recipe.augmentation)
    policy = captions_of(recipe.captions)
    near = nearest(start.frozen(), data, policy) if policy.of_images and recipe.n_captions else None
    return Pairs(data, recipe, start.tokenize, change, further, pair_scores, near)


def evaluate(model: Model, data: Dataset) -> dict[str, float]:
    """Scores of a model on a dataset, in [0, 1] but for the gap: mean average precision across and within modalities.

    Returns:
        `image_to_text` and `text_to_image`, `image_to_image`, and `modality_gap` of all images and texts; what needs a
        modality that the model or the data lacks is left out.
    """
    values: dict[str, float] = {}
    images = encode(model, data.images, store=None, progress=False) if len(data.images) else None
    texts = None
    if len(data.texts) and not model.settings.get("image_only"):
        texts = encode(model, data.texts, store=None, progress=False)
    relevance = data.relevance()
    if images is not None:
        values["image_to_image"] = float(retrieval(images, images, relevance)["ap"].mean())
    if images is not None and texts is not None:
        values["image_to_text"] = float(retrieval(images, texts, relevance)["ap"].mean())
        values["text_to_image"] = float(retrieval(texts, images, relevance)["ap"].mean())
        values["modality_gap"] = modality_gap(images, texts)
    return values


def trained_on(data: Dataset) -> list[str]:
    """The identity of training data: the name, the split, and a digest of the items and their labels."""
    labels = json.dumps(sorted((i, str(label)) for i, label in data.labels_of().items()))
    items = "\n".join((*data.images.ids, data.images.digest, data.texts.digest, labels))
    return [data.name, data.split_name, hashlib.sha256(items.encode("utf-8", "surrogatepass")).hexdigest()]


def _run(start: Trainable, data: Dataset, recipe: Recipe, given: Mapping[str, str]) -> dict[str, Any]:
    """What a folder's run is made from; two runs that differ here are two runs."""
    about = {"weights": weights_digest(start.module), "data": trained_on(data), "recipe": recipe.plain()}
    if start.attached is not None:
        about["adapter"] = [start.attached.adapter.in_full, weights_digest(start.attached.modules)]
    if given:
        about["given"] = dict(given)
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def _claim(out: Path, run: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / RUN
    if not file.is_file():
        with written_whole(file, "what this run is made from") as temporary:
            temporary.write_text(json.dumps(run, indent=1), "utf-8")
        return
    try:
        there = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise XgapError(f"{file} is damaged; remove the folder to train anew") from error
    if there != run:
        differs = [key for key in run if there.get(key) != run[key]]
        what = f"{out} holds another run, with another {' and '.join(differs)}"
        raise XgapError(f"{what}; name another folder")
