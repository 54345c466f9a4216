"""Modality inversion: an image feature in the text space (OTI), a text feature in the image space (OVI).

Mistretta et al., "Cross the Gap" (ICLR 2025): pseudo-tokens, fed to the frozen encoder of the other modality, are
optimised until their feature points where the given one does. OTI feeds words to the text tower, OVI patches to the
image tower.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.models.fingerprint import is_known
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import Invertible, Model, check_model
from xgap_analysis.store import Engine, Store, compute, entry_key, key_of
from xgap_analysis.store import engine as named_engine
from xgap_analysis.store.engines import Local
from xgap_analysis.views.inversion import textual, visual
from xgap_analysis.views.inversion.capacity import most_rows
from xgap_analysis.views.inversion.loop import unit_features
from xgap_analysis.views.inversion.settings import NAMES, STEPS, Settings
from xgap_analysis.views.inversion.work import Work
from xgap_analysis.views.keeping import kept_in
from xgap_analysis.views.pace import Pace
from xgap_analysis.views.sharing import stored_by

SHARD = 256  # items, or one batch where that is larger; a killed run loses at most this much work


@dataclass(frozen=True, eq=False)
class Inversion:
    """Inverted features and how they came about.

    Args:
        features: `[n, d]`, with the inputs' ids and origin, in the other space.
        pseudo_tokens: `[n, r, width]`; `encode_pseudo_tokens` gives the features again.
        loss: `[steps, n]`, in [0, 2]; row s is `1 - cos(feature, target)` before update s, so row 0 is the start's.
            After an item has stopped (`stop`), its loss stays as it was. With L-BFGS, of the best of the first s + 1
            points that were tried, the start among them.
        snapshots: number of updates to features after them; 0 is the start.
        provenance: parameters, model and inputs.

    Example:
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> images = xg.encode(model, xg.load_dataset("emoji").split("val").limit(1).images, progress=False)
        >>> inversion = xg.invert(model, images, steps=5, tokens=2, snapshots=[0, 5], progress=False)
        >>> inversion.pseudo_tokens.shape[1], len(inversion.loss), sorted(inversion.snapshots)
        (2, 5, [0, 5])
    """

    features: Features
    pseudo_tokens: Tensor
    loss: Tensor
    snapshots: Mapping[int, Features]
    provenance: Mapping[str, Any]

    def __repr__(self) -> str:
        """One line: the features, the shape of the pseudo-tokens and the steps."""
        return f"Inversion({self.features!r}, pseudo-tokens {list(self.pseudo_tokens.shape)}, {len(self.loss)} steps)"


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
    optimiser: str = "adamw",
    batch_size: int | None = None,
    precision: str | None = None,
    store: Store | str | None = "default",
    engine: str | Engine = "local",
    progress: bool = True,
) -> Inversion:
    """Inverts features into the other modality, each item on its own.

    Image features go through the text tower (OTI: prompt with pseudo-tokens), text features through the image tower
    (OVI: pseudo-patches). An item's result does not depend on its company, order or shard beyond rounding (cosine
    above 0.9999; for L-BFGS see `optimiser`). What the store has of an item is found again whatever the list; a rerun
    gives the same bits, and a longer list computes the new items alone.

    Args:
        model: whose features these are.
        features: of space `"image"` or `"text"`.
        steps: updates; 150 for OTI, 1000 for OVI. More is not better: the features drift back to the native ones.
        tokens: pseudo-tokens R (1) or pseudo-patches P (`model.settings["ovi_tokens"]`, else 1) of an item.
        template: the prompt of OTI, with `{}` where the pseudo-tokens go.
        lr, weight_decay: of AdamW.
        init_std: standard deviation of the normal start.
        seed: with an item's id it gives the item's start.
        snapshots: numbers of updates (0 to steps) after which features are kept too. One that the store lacks costs
            the inversion anew; with another batch size or device than the inversion's it differs from it by rounding.
        stop: `"fixed"`; `"plateau"` (an item stops when 25 steps have not brought 0.001 of cosine); or the cosine at
            which an item stops. Each item stops on its own.
        start: `"normal"`, the paper's, drawn from (seed, id); or `"closed-form"`, computed from the target by a linear
            model of the tower (see `ClosedForm`), for fewer steps. Lower loss is not better retrieval.
        optimiser: `"adamw"`, the paper's; or `"l-bfgs"`, for fewer steps: it has no learning rate and no weight decay,
            and a step is one pass, whose point is kept only if the loss falls (see `LBFGS`). It enlarges rounding: of
            the same items in batches of another size, the embedded models' features had a lowest cosine of 0.99999
            after 20 steps, 0.998 after 40 and 0.994 after 100, where losses differed by 0.0005 on average.
        batch_size: items optimised together. By default 64 on a processor, and on CUDA what the free memory holds (two
            small steps are measured), up to 2,048. A batch that does not fit goes in halves, with a warning.
        precision: of the loop: `"fp32"`, or `"bf16"` / `"fp16"` for autocast. By default the model's own, in which the
            features are computed, too; a model in half precision is not inverted in float32.
        store: where results are kept and found again; None keeps nothing. By default the user's store.
        engine: who computes, as of `encode`: `"local"`, `"ranks"` (each inverts the features that it owns by their ids)
            or `"ray"`. A view, `xg.view("oti")(model, items, engine=...)`, shares the encoding as well.
        progress: show a bar when something has to be computed.

    Returns:
        The inversion, on the CPU, in the order of `features`.

    Raises:
        XgapError: features of another space or dimension, a template that does not work, or a parameter out of range.

    Example:
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> images = xg.encode(model, xg.load_dataset("emoji").split("val").limit(1).images, progress=False)
        >>> oti = xg.invert(model, images, steps=5, progress=False)
        >>> oti.features.space, oti.features.origin, oti.features.ids == images.ids
        ('text', 'image', True)
        >>> bool(oti.loss[-1].mean() < oti.loss[0].mean())  # the loss is 1 - cosine to the native feature
        True
    """
    check_model(model)
    batch_size = Pace(batch_size).filled().batch_size
    settings = Settings.of(
        model,
        features,
        steps=steps,
        tokens=tokens,
        template=template,
        lr=lr,
        weight_decay=weight_decay,
        init_std=init_std,
        seed=seed,
        snapshots=snapshots,
        stop=stop,
        start=start,
        optimiser=optimiser,
        batch_size=batch_size,
        precision=_precision(model, precision),
    )
    by = named_engine(engine)
    if not isinstance(by, Local):
        how = {**vars(settings), "progress": progress}
        del how["space"]  # that of the features
        store = stored_by(by, model, features, invert, how, store=store)
    tower = model.invertible(settings.space)
    prompt = textual.make_prompt(model.tokenize, template, settings.tokens) if settings.space == "text" else None
    with suited(tower, 1, model.device):
        forward = _forward(tower, settings.tokens, prompt)
        _check_dimensions(model, features, forward, (settings.tokens, tower.width))
    made_by = settings.made_by(model, tower, prompt)
    # What is looked at on the way changes no number, so it is kept beside the inversion and not as a part of it.
    entries = {"whole": made_by, **{str(step): {**made_by, "snapshot": step} for step in settings.between}}
    items = settings.items(features)
    work = Work(model, tower, forward, features, settings, progress)
    found = compute(
        entries,
        items,
        work.rows,
        shard_size=max(SHARD, batch_size or most_rows(model.device, tower.length)),
        store=kept_in(store) if is_known(model) else None,
        description=settings.name.upper(),
        progress=False,  # the bar of the work counts steps: a shard of a thousand steps is too long to wait for
        notes={"model": model.name, "device": str(model.device), "batch_size": batch_size},
    )
    work.close()
    about = {name: _about(model, features, settings, entry, items) for name, entry in entries.items()}

    def vectors(entry: str) -> Features:
        rows = found[entry].tensors["features"]
        return Features(rows, features.ids, tower.space, features.origin, about[entry], features.items)

    return Inversion(
        features=vectors("whole"),
        pseudo_tokens=found["whole"].tensors["pseudo_tokens"],
        loss=found["whole"].tensors["loss"].T.contiguous(),
        snapshots={step: vectors(str(step) if step < settings.steps else "whole") for step in settings.snapshots},
        provenance=about["whole"],
    )


def _about(
    model: Model, features: Features, settings: Settings, entry: Mapping[str, Any], items: Sequence[str]
) -> dict[str, Any]:
    """The provenance of what an entry holds."""
    return {
        "model": model.name,
        "weights": model.weights_digest,
        "activation": model.activation,
        **({"template": settings.template} if settings.space == "text" else {}),
        **entry,
        "seed": settings.seed,
        "init_std": settings.init_std,
        "entry": entry_key(entry),
        "input": dict(features.provenance),
        "digest": key_of({**entry, "items": items, "ids": features.ids}),
    }


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
        space: the space of the features: whose tower the tokens enter.
        template: the prompt, for space `"text"`.
        batch_size: tokens encoded together.

    Raises:
        XgapError: tokens of another shape than the tower takes, or a template that does not work.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> tokens = torch.zeros(3, 1, model.text.width)  # three items, one pseudo-word each
        >>> tuple(xg.encode_pseudo_tokens(model, tokens).shape)
        (3, 512)
    """
    width = model.invertible(space).width
    if tokens.ndim != 3 or tokens.shape[2] != width:
        raise XgapError(f"pseudo-tokens for this {space} tower are [n, r, {width}], not {list(tokens.shape)}")
    forward = pseudo_forward(model, space, template, tokens.shape[1])
    parts = [unit_features(forward, part.to(model.device, torch.float32)) for part in tokens.split(batch_size)]
    return torch.cat(parts).to(tokens.device)


def pseudo_forward(model: Model, space: str, template: str, count: int) -> Callable[[Tensor], Tensor]:
    """A function from pseudo-tokens `[n, count, width]` to features `[n, d]` of this space, not normalised."""
    prompt = textual.make_prompt(model.tokenize, template, count) if space == "text" else None
    return _forward(model.invertible(space), count, prompt)


def _forward(tower: Invertible, count: int, prompt: textual.Prompt | None) -> Callable[[Tensor], Tensor]:
    return visual.pseudo_forward(tower, count) if prompt is None else textual.pseudo_forward(tower, prompt)


def _precision(model: Model, given: str | None) -> str:
    """That of the loop: the model's where it is not given."""
    if given not in (None, model.precision) and model.precision != "fp32":
        what = f"model {model.name!r} computes in {model.precision}, and the passes of its inversion with it"
        raise XgapError(f'{what}: leave precision={given!r} out, or load the model with precision="fp32"')
    return given or model.precision


def _check_dimensions(
    model: Model, features: Features, forward: Callable[[Tensor], Tensor], shape: tuple[int, int]
) -> None:
    probe = unit_features(forward, torch.zeros(1, *shape, device=model.device))
    if probe.shape[1] != features.dim:
        raise XgapError(
            f"the features have {features.dim} dimensions, those of model {model.name!r} {probe.shape[1]}: they are "
            "another model's, or from before its projection"
        )


__all__ = ["NAMES", "STEPS", "Inversion", "encode_pseudo_tokens", "invert", "pseudo_forward"]
