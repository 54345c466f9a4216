"""Modality inversion: an image feature as a point on the text side (OTI), a text feature on the image side (OVI).

Mistretta et al., "Cross the Gap" (ICLR 2025): pseudo-tokens, fed to the frozen encoder of the other modality, are
optimised until their feature points where the given one does. OTI feeds words to the text tower, OVI patches to the
image tower.
"""

import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.progress import Bar
from xgap_analysis.models.precision import AUTOCAST
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import Model
from xgap_analysis.store import Rows, Store, compute, entry_key, key_of
from xgap_analysis.views.inversion import textual, visual
from xgap_analysis.views.inversion.closed_form import ClosedForm
from xgap_analysis.views.inversion.loop import InversionLoop, Optimised, check_stop, starts, unit_features

SHARD = 256  # items; a killed run loses at most this much work
STEPS = {"text": 150, "image": 1000}  # by the side inverted into: OTI, OVI (the paper's configurations)
NAMES = {"text": "oti", "image": "ovi"}


@dataclass(frozen=True, eq=False)
class Inversion:
    """Inverted features and how they came about.

    Args:
        features: `[n, d]`, the inputs' ids and origin, on the other side of the sphere.
        pseudo_tokens: `[n, r, width]`; `encode_pseudo_tokens` gives the features again.
        loss: `[steps, n]`, in [0, 2]; row s is `1 - cos(feature, target)` before update s, so row 0 is the start's.
            After an item has stopped (`stop`), its loss stays as it was.
        snapshots: number of updates to features after them; 0 is the start.
        provenance: parameters, model and inputs.
    """

    features: Features
    pseudo_tokens: Tensor
    loss: Tensor
    snapshots: Mapping[int, Features]
    provenance: Mapping[str, Any]


def invert(
    model: Model,
    features: Features,
    *,
    steps: int | None = None,
    tokens: int | None = None,
    template: str = "a photo of {}",
    lr: float = 2e-2,
    weight_decay: float = 0.01,
    init_std: float = 0.02,
    seed: int = 42,
    snapshots: Iterable[int] = (),
    stop: str | float = "fixed",
    start: str = "normal",
    batch_size: int = 64,
    precision: str = "fp32",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Inversion:
    """Inverts features into the other modality, each item on its own.

    Image features go through the text tower (OTI: prompt with pseudo-tokens), text features through the image tower
    (OVI: pseudo-patches). An item's result does not depend on its company, order or shard beyond rounding (cosine
    above 0.9999). What the store has of an item is found again whatever the list; a rerun gives the same bits, and a
    longer list computes the new items alone.

    Args:
        model: whose features these are.
        features: of space `"image"` or `"text"`.
        steps: updates; 150 for OTI, 1000 for OVI. More is not better: the features drift back to the native side.
        tokens: pseudo-tokens R (1) or pseudo-patches P (`model.settings["ovi_tokens"]`, else 1) of an item.
        template: the prompt of OTI, with `{}` where the pseudo-tokens go.
        lr, weight_decay: of AdamW.
        init_std: standard deviation of the normal start.
        seed: with an item's id it gives the item's start.
        snapshots: numbers of updates (0 to steps) after which features are kept too. One that the store lacks costs
            the inversion anew; with another batch size or device than the inversion's it differs from it by rounding.
        stop: `"fixed"`; `"plateau"` (an item stops when 25 steps have not brought 0.001 of cosine); or the cosine at
            which an item stops. Each item is judged alone.
        start: `"normal"`, the paper's, drawn from (seed, id); or `"closed-form"`, computed from the target by a linear
            model of the tower (see `ClosedForm`), for fewer steps. Lower loss is not better retrieval.
        batch_size: items optimised together, at most 256; a batch that does not fit the device's memory goes in halves.
        precision: `"bf16"` or `"fp16"` for autocast in the loop; the features are computed without it.
        store: where results are kept and found again; None keeps nothing. By default the user's store.
        progress: show a bar when something has to be computed.

    Returns:
        The inversion, on the CPU, in the order of `features`.

    Raises:
        XgapError: features of another space or dimension, a template that does not work, or a parameter out of range.
    """
    if features.space not in ("image", "text"):
        raise XgapError(f'only features of space "image" or "text" can be inverted, not of space {features.space!r}')
    side = "text" if features.space == "image" else "image"
    steps = STEPS[side] if steps is None else steps
    if tokens is None:
        tokens = int(model.settings.get("ovi_tokens", 1)) if side == "image" else 1
    wanted = sorted(set(snapshots))
    stop = check_stop(stop)
    _check(len(features), steps, wanted, batch_size, precision, start)
    tower = model.tower(side)
    prompt = textual.make_prompt(model.tokenize, template, tokens) if side == "text" else None
    with suited(tower, 1, model.device):
        forward = visual.pseudo_forward(tower, tokens) if prompt is None else textual.pseudo_forward(tower, prompt)
        _check_dimensions(model, features, side, forward, tokens)
    drawn = start == "normal"
    made_by = {  # what determines the numbers, besides an item
        "view": NAMES[side],
        "fingerprint": model.fingerprint,
        "precision": model.precision,
        "steps": steps,
        "tokens": tokens,
        "lr": lr,
        "weight_decay": weight_decay,
        "stop": stop,
        "loop_precision": precision,
        **({"init_std": init_std, "seed": seed} if drawn else {"start": start}),
        **({} if prompt is None else {"prompt": [prompt.ids.tolist(), prompt.start]}),
    }
    # An item is its target, and where its start is drawn from (seed, id) its id. A start that is computed from the
    # target depends on neither.
    items = [
        key_of({"target": hashlib.sha256(row.numpy().tobytes()).hexdigest(), **({"id": item} if drawn else {})})
        for item, row in zip(features.ids, features.vectors.cpu(), strict=True)
    ]
    # What is looked at on the way changes no number, so it is kept beside the inversion and not as a part of it.
    between = [step for step in wanted if step < steps]
    entries = {"whole": made_by, **{str(step): {**made_by, "snapshot": step} for step in between}}
    width = tower.width

    @functools.cache  # the Jacobian is taken once, and only where something has to be computed
    def computed() -> ClosedForm:
        return ClosedForm(forward, tokens, width, model.device)

    def first(batch: Sequence[str], targets: Tensor) -> Tensor:
        if start == "closed-form":
            return computed().starts(targets)
        return starts(batch, tokens, width, seed=seed, std=init_std).to(model.device)

    bar = _Bar(f"{NAMES[side].upper()} with {model.name}", len(features), steps, progress)

    descend = _WithinMemory(
        lambda n: InversionLoop(
            forward,
            (n, tokens, width),
            features.dim,
            model.device,
            steps=steps,
            lr=lr,
            weight_decay=weight_decay,
            stop=stop,
            precision=precision,
        )
    )

    def worker(places: Sequence[int], missing: Collection[str]) -> dict[str, Rows]:
        lacking = [step for step in between if str(step) in missing]
        parts = []
        for position in range(0, len(places), batch_size):
            batch = list(places[position : position + batch_size])
            targets = features.vectors[batch]
            look = functools.partial(bar.at, len(batch))
            with suited(tower, len(batch), model.device):
                begin = first([features.ids[place] for place in batch], targets)
                parts.append(descend.run(begin, targets, lacking, look))
            bar.next(len(batch))
        whole = {
            "pseudo_tokens": torch.cat([p.tokens for p in parts]),
            "features": torch.cat([p.features for p in parts]),
            "loss": torch.cat([p.loss.T for p in parts]),
        }
        return {
            "whole": Rows(whole),
            **{str(step): Rows({"features": torch.cat([p.snapshots[step] for p in parts])}) for step in lacking},
        }

    found = compute(
        entries,
        items,
        worker,
        shard_size=SHARD,
        store=_store(store),
        description=NAMES[side].upper(),
        progress=False,  # the bar below counts steps: a shard of a thousand steps is too long to wait for
        notes={"model": model.name, "device": str(model.device), "batch_size": batch_size},
    )
    bar.close()

    def about(entry: str) -> dict[str, Any]:
        return {
            "model": model.name,
            "weights": model.weights_digest,
            "activation": model.activation,
            **({"template": template} if side == "text" else {}),
            **entries[entry],
            "seed": seed,
            "init_std": init_std,
            "entry": entry_key(entries[entry]),
            "input": dict(features.provenance),
            "digest": key_of({**entries[entry], "items": items, "ids": features.ids}),
        }

    def vectors(entry: str) -> Features:
        return Features(
            found[entry].tensors["features"], features.ids, side, features.origin, about(entry), features.items
        )

    return Inversion(
        features=vectors("whole"),
        pseudo_tokens=found["whole"].tensors["pseudo_tokens"],
        loss=found["whole"].tensors["loss"].T.contiguous(),
        snapshots={step: vectors(str(step) if step < steps else "whole") for step in wanted},
        provenance=about("whole"),
    )


def encode_pseudo_tokens(
    model: Model,
    tokens: Tensor,
    space: str = "text",
    template: str = "a photo of {}",
    *,
    batch_size: int = 64,
) -> Tensor:
    """Features of pseudo-tokens: `[n, r, width]` to unit rows `[n, d]`, on the device of `tokens`.

    Args:
        model: the model they were made for.
        tokens: for space `"text"`, pseudo-tokens that take the place of `{}`; for `"image"`, pseudo-patches, spread
            over all patches by nearest interpolation.
        space: the side of the sphere the features lie on: which tower the tokens enter.
        template: the prompt, for space `"text"`.
        batch_size: tokens encoded together.

    Raises:
        XgapError: tokens of another shape than the tower takes, or a template that does not work.
    """
    width = model.tower(space).width
    if tokens.ndim != 3 or tokens.shape[2] != width:
        raise XgapError(f"pseudo-tokens for this {space} tower are [n, r, {width}], not {list(tokens.shape)}")
    forward = pseudo_forward(model, space, template, tokens.shape[1])
    parts = [unit_features(forward, part.to(model.device, torch.float32)) for part in tokens.split(batch_size)]
    return torch.cat(parts).to(tokens.device)


def pseudo_forward(model: Model, side: str, template: str, count: int) -> Callable[[Tensor], Tensor]:
    """A function from pseudo-tokens `[n, count, width]` to features `[n, d]` of this side, not normalised."""
    if side == "image":
        return visual.pseudo_forward(model.image, count)
    return textual.pseudo_forward(model.text, textual.make_prompt(model.tokenize, template, count))


class _WithinMemory:
    """Runs batches; one that does not fit the device's memory goes in halves, which changes no more than rounding.

    Args:
        make: the descent of batches of n items. The last one made serves batches of its size until another is made.
    """

    def __init__(self, make: Callable[[int], InversionLoop]) -> None:
        self._make = functools.lru_cache(maxsize=1)(make)
        self._fits = SHARD  # items, as far as is known

    def run(
        self, start: Tensor, targets: Tensor, snapshots: Collection[int], on_step: Callable[[int], Any] | None
    ) -> Optimised:
        n = len(start)
        if n <= self._fits:
            try:
                return self._make(n).run(start, targets, snapshots=snapshots, on_step=on_step)
            except torch.OutOfMemoryError:
                if n == 1:
                    raise
                self._fits = n - 1
            self._make.cache_clear()
            if start.is_cuda:  # outside the handler, whose traceback would hold the tensors of the attempt
                torch.cuda.empty_cache()
        half = n // 2
        first = self.run(start[:half], targets[:half], snapshots, None)
        second = self.run(start[half:], targets[half:], snapshots, on_step)
        return Optimised(
            torch.cat([first.tokens, second.tokens]),
            torch.cat([first.features, second.features]),
            torch.cat([first.loss, second.loss], dim=1),
            {step: torch.cat([first.snapshots[step], second.snapshots[step]]) for step in first.snapshots},
        )


def _store(store: Store | str | None) -> Store | None:
    if isinstance(store, str):
        if store != "default":
            raise XgapError(f'store is a Store, "default" or None, not {store!r}')
        return Store()
    return store


def _check(n: int, steps: int, snapshots: list[int], batch_size: int, precision: str, start: str) -> None:
    if not n:
        raise XgapError("there is nothing to invert: the features are empty")
    if steps < 1:
        raise XgapError(f"inversion takes at least one step, not {steps}")
    if snapshots and not (snapshots[0] >= 0 and snapshots[-1] <= steps):
        raise XgapError(f"snapshots are steps from 0 to {steps}, not {snapshots}")
    if not 1 <= batch_size <= SHARD:
        raise XgapError(f"batch_size is between 1 and {SHARD}, not {batch_size}")
    if precision not in AUTOCAST:
        raise XgapError(f"precision is one of {', '.join(AUTOCAST)}, not {precision!r}")
    if start not in ("normal", "closed-form"):
        raise XgapError(f'start is "normal" or "closed-form", not {start!r}')


def _check_dimensions(
    model: Model, features: Features, side: str, forward: Callable[[Tensor], Tensor], count: int
) -> None:
    probe = unit_features(forward, torch.zeros(1, count, model.tower(side).width, device=model.device))
    if probe.shape[1] != features.dim:
        raise XgapError(
            f"the features have {features.dim} dimensions, those of model {model.name!r} {probe.shape[1]}: they are "
            "another model's, or from before its projection"
        )


class _Bar:
    """One progress bar over items, moved step by step; it appears with the first batch that is computed."""

    def __init__(self, description: str, n: int, steps: int, shown: bool) -> None:
        self._description, self._n, self._steps, self._shown = description, n, steps, shown
        self._bar: Bar | None = None
        self._before = 0  # steps of the batches that are over

    def at(self, count: int, done: int) -> None:
        """`done` steps of the batch at work, which has `count` items, are done."""
        if self._bar is None:
            self._bar = Bar(total=self._n * self._steps, desc=self._description, unit="step", disable=not self._shown)
        self._bar.update(self._before + count * done - self._bar.n)

    def next(self, count: int) -> None:
        """A batch of `count` items is over."""
        self._before += count * self._steps

    def close(self) -> None:
        if self._bar is not None:
            self._bar.update(self._n * self._steps - self._bar.n)
            self._bar.close()


__all__ = ["Inversion", "encode_pseudo_tokens", "invert"]
