"""One step: the gradient of an objective over a batch, of whatever size the towers can take at once."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.models.adapters.openclip import autocast
from xgap_analysis.training.objectives import temperature_at
from xgap_analysis.training.pairs import Batch, seed_of
from xgap_analysis.training.recipe import Recipe
from xgap_analysis.training.terms import TERMS, Views, active, objective

LARGEST_SCALE = math.log(100)  # CLIP's own bound


class TrainStep:
    """An open_clip module with its recipe: gives gradients, takes no decision.

    Args:
        module: the model.
        recipe: what it is trained for.
        n_labels: classes of the data, for terms with class centres.
    """

    def __init__(self, module: Any, recipe: Recipe, n_labels: int) -> None:
        self.module, self.recipe = module, recipe
        self.device = next(module.parameters()).device
        terms = active(recipe.objective)
        self._scaled = any(TERMS[name].scaled for name in terms)
        self.centres: nn.Parameter | None = None
        if "arc-margin" in terms:
            d = module.encode_image(torch.zeros(1, 3, *_size(module), device=self.device)).shape[1]
            drawn = torch.randn(n_labels, d, generator=torch.Generator().manual_seed(recipe.seed)) * d**-0.5
            self.centres = nn.Parameter(drawn.to(self.device))
        if "siglip" in terms and getattr(module, "logit_bias", None) is None:
            module.logit_bias = nn.Parameter(torch.tensor(-10.0, device=self.device))
        self._choose_trained()

    def _choose_trained(self) -> None:
        towers = self.recipe.towers
        images = towers != "text" and self.recipe.n_views > 0
        texts = towers != "image" and self.recipe.n_captions > 0
        logits = self._scaled and self.recipe.temperature == "learned"
        for name, parameter in self.module.named_parameters():
            if name in ("logit_scale", "logit_bias"):
                parameter.requires_grad_(logits or (name == "logit_bias" and self._scaled))
            else:
                parameter.requires_grad_(images if name.startswith("visual.") else texts)

    def train(self) -> None:
        """Towers that are trained take part in dropout; a frozen one computes as it will be used."""
        self.module.train()
        if self.recipe.towers == "text":
            self.module.visual.eval()
        elif self.recipe.towers == "image" and hasattr(self.module, "text"):
            self.module.text.eval()

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        return [*named, ("centres", self.centres)] if self.centres is not None else named

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
            made = self._loss(images, texts, batch.labels, step)
            _scaled(made["loss"], scaler).backward()
        else:
            with torch.no_grad():
                halves = [self._towers(batch, part, step) for part in parts]
            images = torch.cat([x for x, _ in halves], dim=1).requires_grad_()
            texts = torch.cat([y for _, y in halves], dim=0).requires_grad_()
            made = self._loss(images, texts, batch.labels, step)
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

    def _loss(self, images: Tensor, texts: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
        bias = getattr(self.module, "logit_bias", None)
        bias = torch.zeros((), device=self.device) if bias is None else bias
        views = Views(images, texts, self.scale(step), bias, labels.to(self.device), self.centres)
        return objective(self.recipe.objective, views)

    def _towers(self, batch: Batch, part: slice, step: int) -> tuple[Tensor, Tensor]:
        """Unit features of some items of a batch: images `[v, m, d]` and texts `[m, k, d]`; empty where not asked."""
        images = texts = torch.zeros(0, 0, 0, device=self.device)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), autocast(self.device, self.recipe.precision):
            torch.manual_seed(seed_of(self.recipe.seed, step, part.start))  # the same dropout when a part comes again
            if batch.pixels.numel():
                pixels = batch.pixels[:, part].to(self.device, non_blocking=True)
                images = _unit(self.module.encode_image(pixels.flatten(0, 1))).unflatten(0, pixels.shape[:2])
            if batch.tokens.numel():
                tokens = batch.tokens[part].to(self.device, non_blocking=True)
                with self._token_dropout():
                    texts = _unit(self.module.encode_text(tokens.flatten(0, 1))).unflatten(0, tokens.shape[:2])
        return images, texts

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


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)


def _scaled(loss: Tensor, scaler: Any) -> Tensor:
    return loss if scaler is None else scaler.scale(loss)


def _size(module: Any) -> tuple[int, int]:
    size = module.visual.image_size
    return (size, size) if isinstance(size, int) else tuple(size)
