"""What changes while a model is trained: its weights, the stage and the step, and how they are kept."""

import math
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.writing import written_whole
from xgap_analysis.models.trainable import WEIGHTS, Trainable
from xgap_analysis.training.pairs import Pairs
from xgap_analysis.training.recipe import Recipe
from xgap_analysis.training.step import TrainStep

STATE = "state.pt"


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of a run, with a recipe of its own.

    Args:
        recipe: without stages.
        pairs: what its steps look at.
    """

    recipe: Recipe
    pairs: Pairs


class Progress:
    """A run that goes from stage to stage.

    Args:
        start: the model.
        stages: in their order.
        out: the run's folder.
    """

    def __init__(self, start: Trainable, stages: Sequence[Stage], out: Path) -> None:
        self.step, self.best, self.seconds = 0, -math.inf, 0.0
        self.curve: list[dict[str, float]] = []
        self._start, self._stages, self._out = start, stages, out
        self._begins = [0, *accumulate(stage.recipe.steps for stage in stages)]  # and where the last ends
        # Of all stages: what one has trained is kept through another that does not read it.
        self._towers = {name: tower for stage in stages for name, tower in stage.pairs.towers.items()}
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Begin a stage with the weights that are there."""
        self._stage, recipe, pairs = stage, self._stages[stage].recipe, self._stages[stage].pairs
        self._recipe = recipe
        start = self._start
        self._learner = TrainStep(start.module, recipe, len(pairs.labels), start.attached, pairs.towers)
        trained = self._learner.parameters()
        # Norms, biases and the temperature are not pulled to zero, as CLIP is trained.
        decayed = [p for _, p in trained if p.ndim >= 2]
        others = [p for _, p in trained if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.98), eps=1e-6)
        self._scaler = torch.amp.GradScaler(self._learner.device.type) if recipe.precision == "fp16" else None
        self._parameters = [p for _, p in trained]

    def batches(self, workers: int) -> Iterator[Any]:
        """The batches that are left, each to be followed by an `update`."""
        while True:
            begin, end = self._begins[self._stage : self._stage + 2]
            sampler = range(self.step - begin, end - begin)
            pairs = self._stages[self._stage].pairs
            yield from DataLoader(pairs, batch_size=None, sampler=sampler, num_workers=workers, pin_memory=False)
            if self._stage + 1 == len(self._stages):
                return
            # The weights as the stage begins: a killed run makes its teacher from them again.
            _written(self._at_the_beginning(self._stage + 1), self._weights())
            self._enter(self._stage + 1)

    def update(self, batch: Any) -> dict[str, float]:
        """One step."""
        recipe, step = self._recipe, self.step - self._begins[self._stage]
        self._optimiser.zero_grad(set_to_none=True)
        self._learner.train()
        numbers = self._learner.gradients(batch, step, self._scaler)
        if not math.isfinite(numbers["loss"]):
            raise XgapError(f"the loss is {numbers['loss']} at step {self.step}; take a lower learning rate or fp32")
        share = step / recipe.steps
        rate = min(1.0, (step + 1) / max(recipe.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * share))
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
        return numbers if len(self._stages) == 1 else {**numbers, "stage": float(self._stage)}

    def save(self) -> None:
        """Keep everything that the next step depends on, whole or not at all."""
        state = {
            "stage": self._stage,
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "curve": self.curve,
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict() if self._scaler is not None else None,
            **self._weights(),
        }
        _written(self._out / STATE, state)

    def restore(self, checkpoints: Sequence[int]) -> None:
        """Go on from a kept state, where there is one and no checkpoint before it is missing."""
        file = self._out / STATE
        if not file.is_file():
            return
        state = self._read(file)
        missing = [n for n in sorted(checkpoints) if n < state["step"] and not is_kept(self._out, n)]
        if missing:
            what = f"{self._out} has no checkpoint after {' and '.join(map(str, missing))} updates"
            text = f"{what} and has gone on to {state['step']}; it is trained again from the first"
            warnings.warn(text, stacklevel=3)
            return
        if state["stage"]:
            self._load(self._read(self._at_the_beginning(state["stage"])))
            self._enter(state["stage"])
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.curve = state["curve"]
        self._load(state)
        self._optimiser.load_state_dict(state["optimiser"])
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])

    def _parts(self) -> dict[str, nn.Module]:
        """What is trained beside the module: the parameters of terms by name, the adapter's, and further towers."""
        attached = self._learner.attached
        own = {f"term {name}": part for name, part in self._learner.own.items()}
        own |= {f"tower {name}": part for name, part in self._towers.items()}
        return own if attached is None else {**own, "adapter": attached.modules}

    def _weights(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"module": self._learner.module.state_dict(), "parts": parts}

    def _load(self, state: dict[str, Any]) -> None:
        """Take over weights: of all parts that are kept and are parts of this stage."""
        module = self._learner.module
        if "logit_bias" in state["module"] and getattr(module, "logit_bias", None) is None:  # of an earlier stage
            module.logit_bias = nn.Parameter(state["module"]["logit_bias"].clone())
        module.load_state_dict(state["module"])
        for name, part in self._parts().items():
            if name in state["parts"]:
                part.load_state_dict(state["parts"][name])

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(file, weights_only=True, map_location=self._learner.device)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise XgapError(f"{file} is damaged; remove it to train anew") from error
        return state

    def _at_the_beginning(self, stage: int) -> Path:
        return self._out / f"stage-{stage}.pt"


def checkpoint(out: Path, step: int) -> Path:
    """The folder of a model after so many updates."""
    return out / f"step-{step}"


def is_kept(out: Path, step: int) -> bool:
    """Whether that folder is whole."""
    return (checkpoint(out, step) / WEIGHTS).is_file()  # they are written last


def _written(file: Path, state: dict[str, Any]) -> None:
    """Keep a state, whole or not at all."""
    with written_whole(file, "the state of this run") as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
