"""One step: the gradient of an objective over a batch, of whatever size the towers can take at once."""

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.attached import Attached
from xgap_analysis.models.adapters.assembled import seeded
from xgap_analysis.models.adapters.openclip import autocast
from xgap_analysis.models.trainable import feature_dim
from xgap_analysis.training.objectives import BatchFeatures, Sizes, total
from xgap_analysis.training.pairs import Batch, seed_of
from xgap_analysis.training.recipe import Recipe
from xgap_analysis.training.temperature import temperature_at

LARGEST_SCALE = math.log(100)  # CLIP's own bound


class TrainStep:
    """An open_clip module with its recipe: gives gradients, takes no decision.

    Args:
        module: the model.
        recipe: what it is trained for.
        n_labels: classes of the data, for terms with parameters of their own.
        attached: an adapter, trained in place of the module.

    Raises:
        XgapError: an adapter that trains what the module does not have, or nothing in the towers that are trained.
    """

    def __init__(self, module: Any, recipe: Recipe, n_labels: int, attached: Attached | None = None) -> None:
        self.module, self.recipe, self.attached = module, recipe, attached
        self.device = next(module.parameters()).device
        self.terms = recipe.terms
        needed = [term.needed for term, _ in self.terms]
        self._scaled = any(needs.scaled or needs.biased for needs in needed)
        self.own = self._modules_of_terms(n_labels)
        if any(needs.biased for needs in needed) and getattr(module, "logit_bias", None) is None:
            module.logit_bias = nn.Parameter(torch.tensor(-10.0, device=self.device))
        self._teacher: TrainStep | None = None
        if any(needs.teacher for needs in needed):
            self._teacher = copy.copy(self)
            self._teacher.module = copy.deepcopy(module).eval().requires_grad_(False)
            self._teacher.attached = None if attached is None else attached.copied()
        self._choose_trained()

    def _modules_of_terms(self, n_labels: int) -> dict[str, nn.Module]:
        """The parameters that terms bring, by the name of the term."""
        made: dict[str, nn.Module] = {}
        for term, _ in self.terms:
            if term.parameters is None:
                continue
            with self._adapted():
                dim = feature_dim(self.module)
            if self.attached is not None:
                dim = self.attached.after("image", torch.ones(1, dim, device=self.device)).shape[1]
            with seeded(self.recipe.seed):
                own = term.made(Sizes(dim, n_labels))
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
        if self.attached is not None:
            for modality, module in self.attached.modules.items():
                module.requires_grad_(images if modality == "image" else texts)
            self._check_adapter(self.attached)

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
        for own in self.own.values():
            own.train()

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        adapter = [] if self.attached is None else [("adapter", self.attached.modules)]
        parts = [*adapter, *self.own.items()]
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
            images, texts = self._towers(batch, parts[0], step)
            made = self._loss(images, texts, batch, parts, step)
            _scaled(made["loss"], scaler).backward()
        else:
            with torch.no_grad():
                halves = [self._towers(batch, part, step) for part in parts]
            images = torch.cat([x for x, _ in halves], dim=1).requires_grad_()
            texts = torch.cat([y for _, y in halves], dim=0).requires_grad_()
            made = self._loss(images, texts, batch, parts, step)
            _scaled(made["loss"], scaler).backward()
            for part in parts:
                again = self._towers(batch, part, step)
                asked = (
                    None if images.grad is None else images.grad[:, part],
                    None if texts.grad is None else texts.grad[part],
                )
                made_of = [(x, g) for x, g in zip(again, asked, strict=True) if g is not None and x.requires_grad]
                if made_of:
                    torch.autograd.backward([x for x, _ in made_of], [g for _, g in made_of])
        told = {name: float(value.detach()) for name, value in made.items()}
        if images.numel() and texts.numel():
            gap = images.detach().flatten(0, 1).mean(0) - texts.detach().flatten(0, 1).mean(0)
            told["gap"] = float(gap.norm())
        return {**told, "scale": float(self.scale(step).detach())}

    def after_update(self) -> None:
        """Keeps the learned temperature within CLIP's bound."""
        with torch.no_grad():
            if self.module.logit_scale.requires_grad:
                self.module.logit_scale.clamp_(0, LARGEST_SCALE)

    def _loss(self, images: Tensor, texts: Tensor, batch: Batch, parts: list[slice], step: int) -> dict[str, Tensor]:
        teacher = None if self._teacher is None else self._teacher._taught(batch, parts, step)
        features = BatchFeatures(images, texts, self.scale(step), self._bias(), batch.labels.to(self.device), teacher)
        return total(self.terms, features, self.own)

    def _bias(self) -> Tensor:
        bias = getattr(self.module, "logit_bias", None)
        return torch.zeros((), device=self.device) if bias is None else bias

    @torch.no_grad()
    def _taught(self, batch: Batch, parts: list[slice], step: int) -> BatchFeatures:
        """A batch through this model as a teacher: in evaluation, and with its own temperature."""
        made = [self._towers(batch, part, step, dropout=False) for part in parts]
        images, texts = torch.cat([x for x, _ in made], dim=1), torch.cat([y for _, y in made])
        return BatchFeatures(images, texts, self.module.logit_scale.exp(), self._bias(), batch.labels.to(self.device))

    def _towers(self, batch: Batch, part: slice, step: int, *, dropout: bool = True) -> tuple[Tensor, Tensor]:
        """Unit features of some items: images `[v, m, d]` and texts `[m, k, d]`; empty where no term needs them."""
        images = texts = torch.zeros(0, 0, 0, device=self.device)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), autocast(self.device, self.recipe.precision), self._adapted():
            torch.manual_seed(seed_of(self.recipe.seed, step, part.start))  # the same dropout when a part comes again
            if batch.pixels.numel():
                pixels = batch.pixels[:, part].to(self.device, non_blocking=True)
                images = self._unit("image", self.module.encode_image(pixels.flatten(0, 1)))
                images = images.unflatten(0, pixels.shape[:2])
            if batch.tokens.numel():
                tokens = batch.tokens[part].to(self.device, non_blocking=True)
                with self._token_dropout() if dropout else contextlib.nullcontext():
                    texts = self._unit("text", self.module.encode_text(tokens.flatten(0, 1)))
                texts = texts.unflatten(0, tokens.shape[:2])
        return images, texts

    def _adapted(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.attached is None else self.attached.within(self.module)

    def _unit(self, modality: str, features: Tensor) -> Tensor:
        features = features.float()
        return F.normalize(features if self.attached is None else self.attached.after(modality, features), dim=-1)

    @contextlib.contextmanager
    def _token_dropout(self) -> Iterator[None]:
        share = self.recipe.token_dropout
        if not share:
            yield
            return
        text = getattr(self.module, "text", self.module)
        table = getattr(text, "token_embedding", None) or text.transformer.get_input_embeddings()
        hook = table.register_forward_hook(lambda _module, _inputs, made: F.dropout(made, share))
        try:
            yield
        finally:
            hook.remove()


def _scaled(loss: Tensor, scaler: Any) -> Tensor:
    return loss if scaler is None else scaler.scale(loss)
