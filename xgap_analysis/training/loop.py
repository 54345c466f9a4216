"""The training loop: from a model by name to a folder of open_clip checkpoints, resumed after a kill."""

import hashlib
import json
import math
import os
import pickle
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.metrics import modality_gap, retrieval
from xgap_analysis.models.adaptation import ADAPTERS
from xgap_analysis.models.adaptation import adapter as as_adapter
from xgap_analysis.models.adapters.openclip import weights_digest
from xgap_analysis.models.captions import warn_of_cut
from xgap_analysis.models.tower import Model
from xgap_analysis.models.trainable import WEIGHTS, Trainable, load_trainable
from xgap_analysis.training.pairs import Pairs, Unreadable, augmentation
from xgap_analysis.training.recipe import Recipe
from xgap_analysis.training.step import TrainStep
from xgap_analysis.views.encode import encode

STATE, RUN, CURVE = "state.pt", "run.json", "curve.parquet"


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Args:
        folder: holds everything below, and a folder `step-<n>` for each requested checkpoint.
        last, best: open_clip directories, for `load_model`.
        curve: a row for each noted step: the terms, loss, scale and gap of that step's batch, and, where the model was
            evaluated, the columns of `judge`.
    """

    folder: Path
    last: Path
    best: Path
    curve: pd.DataFrame


def train(
    model: str | Path,
    data: Dataset,
    out: Path | str,
    recipe: Recipe | None = None,
    *,
    judged_on: Dataset | None = None,
    judge_every: int | None = None,
    checkpoints: tuple[int, ...] = (),
    save_every: int = 200,
    note_every: int = 10,
    device: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Trained:
    """Train a model, from fresh weights or from those it has.

    The same call goes on where a killed run stopped, with the same weights to the bit on one device: all that is drawn
    follows from the seed and the step's number. A checkpoint that lies behind that place and was not kept is made by
    training from the first update again, with a warning.

    Args:
        model: by name or path, as `load_model` takes it.
        data: images and texts whose default label says which belong together.
        out: the run's folder.
        recipe: how; the defaults of `Recipe` if None.
        judged_on: the dataset that the model is evaluated on during training (a validation split); the best is kept.
        judge_every: steps between two evaluations; None evaluates only the last step.
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
    if any(not 0 <= step <= recipe.steps for step in checkpoints):
        raise XgapError(f"checkpoints are numbers of updates from 0 to {recipe.steps}, not {sorted(checkpoints)}")
    if recipe.adapter is not None and as_adapter(recipe.adapter).name not in ADAPTERS:
        what = f"adapter {as_adapter(recipe.adapter)} has no name, by which the trained model could be loaded"
        raise XgapError(f"{what}: decorate its function with register_adapter")
    start = load_trainable(model, device=device, scratch=recipe.scratch, seed=recipe.seed, adapter=recipe.adapter)
    if recipe.n_captions:
        warn_of_cut(start.name, start.tokenize, data.texts.captions)
    pairs = Pairs(data, recipe, start.tokenize, augmentation(start.module, start.preprocess, recipe.augmentation))
    _claim(out, _run(start, data, recipe))
    if not recipe.n_captions:
        start.settings["image_only"] = True  # its text tower learned nothing; questions to it are refused
    if any(term.needed.biased for term, _ in recipe.terms):
        start.shape.setdefault("init_logit_bias", -10.0)
    with torch.random.fork_rng():
        run = _Progress(start, pairs, recipe)
        run.restore(out / STATE, checkpoints)
        batches = DataLoader(
            pairs, batch_size=None, sampler=range(run.step, recipe.steps), num_workers=workers, pin_memory=False
        )
        began = time.monotonic() - run.seconds
        if run.step in checkpoints and not _is_kept(out, run.step):
            start.save(_checkpoint(out, run.step))
        with tqdm(total=recipe.steps, initial=run.step, desc="train", unit="step", disable=not progress) as bar:
            for batch in batches:
                if isinstance(batch, Unreadable):
                    what = f"image {batch.item!r} of {data.name!r} ({data.split_name}) cannot be read ({batch.reason})"
                    raise XgapError(f"{what}; repair it or take it out of the training data, and run this again")
                told = run.update(batch)
                bar.update()
                bar.set_postfix(loss=f"{told['loss']:.3f}", refresh=False)
                last = run.step == recipe.steps
                judging = judged_on is not None and (last or (judge_every and run.step % judge_every == 0))
                if judging and judged_on is not None:
                    told |= judge(start.frozen(), judged_on)
                    score = told.get("image_to_text", told.get("image_to_image", -math.inf))
                    if score > run.best:
                        run.best = score
                        start.save(out / "best")
                run.seconds = time.monotonic() - began
                if judging or last or run.step % note_every == 0:
                    run.curve.append({"step": run.step, "seconds": run.seconds, **told})
                if run.step in checkpoints:
                    start.save(_checkpoint(out, run.step))
                if last or run.step % save_every == 0:
                    start.save(out / "last")
                    run.save(out / STATE)
    curve = pd.DataFrame(run.curve)
    curve.to_parquet(out / CURVE)
    best = out / "best"
    return Trained(out, out / "last", best if best.is_dir() else out / "last", curve)


def judge(model: Model, data: Dataset) -> dict[str, float]:
    """Scores of a model on a dataset, in [0, 1] but for the gap: mean average precision across and within modalities.

    Returns:
        `image_to_text` and `text_to_image`, `image_to_image`, and `modality_gap` of all images and texts; what needs a
        modality that the model or the data lacks is left out.
    """
    told: dict[str, float] = {}
    images = encode(model, data.images, store=None, progress=False) if len(data.images) else None
    texts = None
    if len(data.texts) and not model.settings.get("image_only"):
        texts = encode(model, data.texts, store=None, progress=False)
    relevance = data.relevance()
    if images is not None:
        told["image_to_image"] = float(retrieval(images, images, relevance)["ap"].mean())
    if images is not None and texts is not None:
        told["image_to_text"] = float(retrieval(images, texts, relevance)["ap"].mean())
        told["text_to_image"] = float(retrieval(texts, images, relevance)["ap"].mean())
        told["modality_gap"] = modality_gap(images, texts)
    return told


class _Progress:
    """What changes while a model is trained, and how it is kept."""

    def __init__(self, start: Any, pairs: Pairs, recipe: Recipe) -> None:
        self.step, self.best, self.seconds = 0, -math.inf, 0.0
        self.curve: list[dict[str, float]] = []
        self._recipe = recipe
        self._learner = TrainStep(start.module, recipe, len(pairs.labels), start.attached)
        trained = self._learner.parameters()
        # Norms, biases and the temperature are not pulled to zero, as CLIP is trained.
        decayed = [p for _, p in trained if p.ndim >= 2]
        others = [p for _, p in trained if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.98), eps=1e-6)
        self._scaler = torch.amp.GradScaler(self._learner.device.type) if recipe.precision == "fp16" else None
        self._parameters = [p for _, p in trained]

    def update(self, batch: Any) -> dict[str, float]:
        """One step."""
        recipe = self._recipe
        self._optimiser.zero_grad(set_to_none=True)
        self._learner.train()
        told = self._learner.gradients(batch, self.step, self._scaler)
        if not math.isfinite(told["loss"]):
            raise XgapError(f"the loss is {told['loss']} at step {self.step}; take a lower learning rate or fp32")
        share = self.step / recipe.steps
        rate = min(1.0, (self.step + 1) / max(recipe.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate
        if self._scaler is not None:
            self._scaler.unscale_(self._optimiser)
        torch.nn.utils.clip_grad_norm_(self._parameters, recipe.clip_gradient)
        if self._scaler is None:
            self._optimiser.step()
        else:
            self._scaler.step(self._optimiser)
            self._scaler.update()
        self._learner.after_update()
        self.step += 1
        return told

    def _parts(self) -> dict[str, torch.nn.Module]:
        """What is trained beside the module: the parameters of terms by name, and the adapter's."""
        attached = self._learner.attached
        own = {f"term {name}": part for name, part in self._learner.own.items()}
        return own if attached is None else {**own, "adapter": attached.modules}

    def save(self, file: Path) -> None:
        """Keep everything that the next step depends on, whole or not at all."""
        state = {
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "curve": self.curve,
            "module": self._learner.module.state_dict(),
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict() if self._scaler is not None else None,
        }
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)

    def restore(self, file: Path, checkpoints: Sequence[int]) -> None:
        """Go on from a kept state, where there is one and no checkpoint before it is missing."""
        if not file.is_file():
            return
        try:
            state = torch.load(file, weights_only=True, map_location=self._learner.device)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise XgapError(f"{file} is damaged; remove it to train anew") from error
        missing = [n for n in sorted(checkpoints) if n < state["step"] and not _is_kept(file.parent, n)]
        if missing:
            what = f"{file.parent} has no checkpoint after {' and '.join(map(str, missing))} updates"
            text = f"{what} and has gone on to {state['step']}; it is trained again from the first"
            warnings.warn(text, stacklevel=3)
            return
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.curve = state["curve"]
        self._learner.module.load_state_dict(state["module"])
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])


def _checkpoint(out: Path, step: int) -> Path:
    return out / f"step-{step}"


def _is_kept(out: Path, step: int) -> bool:
    return (_checkpoint(out, step) / WEIGHTS).is_file()  # they are written last


def trained_on(data: Dataset) -> list[str]:
    """What tells training data apart: the name, the split, and a digest of the items and their labels."""
    labels = json.dumps(sorted((i, str(label)) for i, label in data.labels_of().items()))
    items = "\n".join((*data.images.ids, data.images.digest, data.texts.digest, labels))
    return [data.name, data.split_name, hashlib.sha256(items.encode("utf-8", "surrogatepass")).hexdigest()]


def _run(start: Trainable, data: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What a folder's run is made from; two runs that differ here are two runs."""
    about = {"weights": weights_digest(start.module), "data": trained_on(data), "recipe": recipe.plain()}
    if start.attached is not None:
        about["adapter"] = [start.attached.adapter.in_full, weights_digest(start.attached.modules)]
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def _claim(out: Path, run: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / RUN
    if not file.is_file():
        temporary = out / f".{RUN}.{os.getpid()}"
        temporary.write_text(json.dumps(run, indent=1), "utf-8")
        temporary.replace(file)
        return
    try:
        there = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise XgapError(f"{file} is damaged; remove the folder to train anew") from error
    if there != run:
        differs = [key for key in run if there.get(key) != run[key]]
        raise XgapError(f"{out} holds another run (its {' and '.join(differs)} differ); name another folder")
