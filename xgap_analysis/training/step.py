"""One step: the gradient of an objective over a batch, of whatever size the towers can take at once."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.attached import Attached
from xgap_analysis.models.adaptation.backbone import vocabulary
from xgap_analysis.models.adapters.assembled import seeded
from xgap_analysis.models.trainable import feature_dim
from xgap_analysis.training.dropout import dropout_of
from xgap_analysis.training.encoding import (
    ITEMS,
    NOTHING,
    Encoded,
    Encoder,
    check_reader,
    check_tokens,
    entered,
    joined,
    part_of,
    patches_of,
    words_of,
)
from xgap_analysis.training.objectives import BatchFeatures, Sizes, total
from xgap_analysis.training.objectives.weights import weight_at
from xgap_analysis.training.pairs import Batch, seed_of
from xgap_analysis.training.recipe import Recipe
from xgap_analysis.training.temperature import temperature_at

LARGEST_SCALE = math.log(100)  # CLIP's own bound
DROPPED = -1  # sets apart what draws the modality that is left out


class TrainStep:
    """An open_clip module with its recipe: gives gradients, takes no decision.

    Args:
        module: the model.
        recipe: what it is trained for.
        n_labels: classes of the data, for terms with parameters of their own.
        attached: an adapter, trained in place of the module.
        further: towers of further modalities, by name.

    Raises:
        XgapError: an adapter that trains what the module does not have, or nothing in the towers that are trained.
    """

    def __init__(
        self,
        module: Any,
        recipe: Recipe,
        n_labels: int,
        attached: Attached | None = None,
        further: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.module, self.recipe, self.attached = module, recipe, attached
        self.device = next(module.parameters()).device
        self.terms = recipe.terms
        needed = [term.needed for term, _ in self.terms]
        self._scaled = any(needs.scaled or needs.biased for needs in needed)
        self.own = self._modules_of_terms(n_labels)
        if any(needs.biased for needs in needed) and getattr(module, "logit_bias", None) is None:
            module.logit_bias = nn.Parameter(torch.tensor(-10.0, device=self.device))
        self.further = nn.ModuleDict(dict(further or {})).to(self.device)
        dropout = recipe.token_dropout
        self.encoder = Encoder(module, attached, tuple(needed), recipe.precision, dropout, self.further)
        self._teacher: Encoder | None = None
        if any(needs.teacher for needs in needed):
            self._teacher = _frozen(self.encoder)
        self._choose_trained()

    def _modules_of_terms(self, n_labels: int) -> dict[str, nn.Module]:
        """The parameters that terms bring, by the name of the term."""
        made: dict[str, nn.Module] = {}
        for term, _ in self.terms:
            if term.parameters is None:
                continue
            with entered(self.module, self.attached):
                dim = feature_dim(self.module)
            if self.attached is not None:
                dim = self.attached.after("image", torch.ones(1, dim, device=self.device)).shape[1]
            with seeded(self.recipe.seed):
                own = term.made(Sizes(dim, n_labels, vocabulary(self.module)))
            if own is not None:
                made[str(term)] = own.to(self.device)
        return made

    def _choose_trained(self) -> None:
        towers = self.recipe.towers
        images = towers != "text" and self.recipe.n_views > 0
        texts = towers != "image" and self.recipe.n_captions > 0
        logits = self._scaled and self.recipe.temperature == "learned"
        beginnings = ("",) if self.attached is None else self.attached.adapter.trained
        for name, parameter in self.module.named_parameters():
            if not name.startswith(beginnings):
                parameter.requires_grad_(False)
            elif name in ("logit_scale", "logit_bias"):
                parameter.requires_grad_(logits or (name == "logit_bias" and self._scaled))
            else:
                parameter.requires_grad_(images if name.startswith("visual.") else texts)
        check_reader(self.attached, [term for term, _ in self.terms])
        if self.attached is not None:
            for modality, module in self.attached.modules.items():
                module.requires_grad_(images if modality == "image" else texts)
            self._check_adapter(self.attached)
            check_tokens(self.module, self.attached, [term for term, _ in self.terms])

    def _check_adapter(self, attached: Attached) -> None:
        what, names = f"adapter {attached.adapter}", [name for name, _ in self.module.named_parameters()]
        for beginning in attached.adapter.trained:
            if not any(name.startswith(beginning) for name in names):
                raise XgapError(f"{what} trains {beginning!r} of its base, which has no such parameter")
        if not any(p.requires_grad for p in (*self.module.parameters(), *attached.modules.parameters())):
            raise XgapError(f"{what} has nothing to train with towers={self.recipe.towers!r} and this objective")

    def train(self) -> None:
        """Towers that are trained take part in dropout; a frozen one computes as it will be used."""
        self.module.train(self.attached is None or bool(self.attached.adapter.trained))
        if self.recipe.towers == "text":
            self.module.visual.eval()
        elif self.recipe.towers == "image" and hasattr(self.module, "text"):
            self.module.text.eval()
        if self.attached is not None:
            for module in self.attached.modules.values():
                module.train(any(p.requires_grad for p in module.parameters()))
        for own in (*self.own.values(), *self.further.values()):
            own.train()

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        adapter = [] if self.attached is None else [("adapter", self.attached.modules)]
        parts = [*adapter, *self.own.items(), *self.further.items()]
        own = [(f"{part}.{name}", p) for part, module in parts for name, p in module.named_parameters()]
        return [(name, p) for name, p in (*self.module.named_parameters(), *own) if p.requires_grad]

    def scale(self, step: int) -> Tensor:
        """1 / temperature at a step."""
        if self.recipe.temperature == "learned":
            return self.module.logit_scale.exp()
        start, end = self.recipe.way
        return torch.tensor(1 / temperature_at(step, self.recipe.steps, start, end), device=self.device)

    def gradients(self, batch: Batch, step: int, scaler: Any = None) -> dict[str, float]:
        """Sets the gradients of one step, and gives the terms, the loss and the batch's modality gap.

        Source of the way in parts: Gao et al., 2021, Scaling deep contrastive learning batch size under memory limited
        setup (gradient cache).
        """
        n = len(batch.labels)
        size = self.recipe.micro_batch or n
        parts = [slice(start, start + size) for start in range(0, n, size)]
        if len(parts) == 1:
            whole = self._encoded(self.encoder, batch, parts[0], step)
            made = self._loss(whole, batch, parts, step)
            _scaled(made["loss"], scaler).backward()
        else:
            with torch.no_grad():
                whole = joined([self._encoded(self.encoder, batch, part, step) for part in parts])
            whole = {name: tensor.requires_grad_() for name, tensor in whole.items()}
            made = self._loss(whole, batch, parts, step)
            _scaled(made["loss"], scaler).backward()
            for part in parts:
                again = self._encoded(self.encoder, batch, part, step)
                flowing = [
                    (tensor, part_of(name, grad, part)) for name, tensor in again.items()
                    if (grad := whole[name].grad) is not None and tensor.requires_grad
                ]  # fmt: skip
                if flowing:
                    torch.autograd.backward([x for x, _ in flowing], [g for _, g in flowing])
        numbers = {name: float(value.detach()) for name, value in made.items()}
        if "images" in whole and "texts" in whole:
            gap = whole["images"].detach().flatten(0, 1).mean(0) - whole["texts"].detach().flatten(0, 1).mean(0)
            numbers["gap"] = float(gap.norm())
        return {**numbers, "scale": float(self.scale(step).detach())}

    def after_update(self) -> None:
        """Keeps the learned temperature within CLIP's bound."""
        with torch.no_grad():
            if self.module.logit_scale.requires_grad:
                self.module.logit_scale.clamp_(0, LARGEST_SCALE)

    def _loss(self, whole: Encoded, batch: Batch, parts: list[slice], step: int) -> dict[str, Tensor]:
        features = self._features(self.encoder, whole, batch, self.scale(step), step)
        if self._teacher is not None:
            with torch.no_grad():
                before = joined([self._encoded(self._teacher, batch, part, step) for part in parts])
                scale: Tensor = self._teacher.module.logit_scale.exp()
                features = replace(features, teacher=self._features(self._teacher, before, batch, scale, step))
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):  # dropout in what terms encode follows from the step too
            torch.manual_seed(features.seed)
            weighted = [(term, weight_at(weight, step, self.recipe.steps)) for term, weight in self.terms]
            return total(weighted, features, self.own)

    def _encoded(self, encoder: Encoder, batch: Batch, part: slice, step: int) -> Encoded:
        return encoder.parts(batch, part, seed_of(self.recipe.seed, step, part.start))

    def _features(self, encoder: Encoder, encoded: Encoded, batch: Batch, scale: Tensor, step: int) -> BatchFeatures:
        """What the terms get: features, and what else an active term needs of the batch."""
        nothing, device = torch.zeros(NOTHING, device=self.device), self.device
        encoded = self._without_dropped(encoded, step)

        def here(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return BatchFeatures(
            encoded.get("images", nothing),
            encoded.get("texts", nothing),
            scale,
            _bias(encoder.module),
            batch.labels.to(device),
            image_tokens=patches_of(encoded),
            text_tokens=words_of(encoded, batch.is_word),
            extra={name: encoded[name] for name in batch.extra},
            pair_scores=here(batch.pair_scores),
            is_caption=here(batch.is_caption),
            pixels=here(batch.pixels[0]) if self._any("pixels") else None,
            ids=here(batch.tokens) if self._any("ids") else None,
            is_word=here(batch.is_word) if self._any("ids") else None,
            empty=here(batch.empty) if self._any("ids") else None,
            towers=encoder if self._any("towers") else None,
            seed=seed_of(self.recipe.seed, step),
        )

    def _without_dropped(self, encoded: Encoded, step: int) -> Encoded:
        """The features of a step, zero where the recipe leaves a modality of an item out."""
        dropout = dropout_of(self.recipe.dropout)
        if not dropout.modality:
            return encoded
        name = {"image": "images", "text": "texts"}.get(dropout.modality, dropout.modality)
        if name not in encoded:
            there = ", ".join({"images": "image", "texts": "text"}.get(own, own) for own in encoded)
            what = f"dropout={self.recipe.dropout!r} leaves out {dropout.modality!r}, which this training does not have"
            raise XgapError(f"{what}; there is {there}")
        features, items = encoded[name], ITEMS.get(name, 0)
        generator = torch.Generator().manual_seed(seed_of(self.recipe.seed, step, DROPPED))
        kept = dropout.kept(features.shape[items], generator).to(features.device, features.dtype)
        shape = [-1 if dim == items else 1 for dim in range(features.ndim)]
        return {**encoded, name: features * kept.view(shape)}

    def _any(self, what: str) -> bool:
        """Whether an active term needs that."""
        return any(getattr(needs, what) for needs in self.encoder.needs)


def _scaled(loss: Tensor, scaler: Any) -> Tensor:
    return loss if scaler is None else scaler.scale(loss)


def _bias(module: Any) -> Tensor:
    bias: Tensor | None = getattr(module, "logit_bias", None)
    return torch.zeros((), device=next(module.parameters()).device) if bias is None else bias


def _frozen(encoder: Encoder) -> Encoder:
    """The towers as they are now: in evaluation, without dropout and gradients."""
    module = copy.deepcopy(encoder.module).eval().requires_grad_(False)
    attached = None if encoder.attached is None else encoder.attached.copied()
    if attached is not None:
        attached.modules.eval()
    further = copy.deepcopy(encoder.further)
    for tower in (further or {}).values():
        tower.eval()
    return replace(encoder, module=module, attached=attached, token_dropout=0.0, further=further)
