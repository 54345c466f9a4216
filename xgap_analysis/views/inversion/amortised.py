"""Inversion by one trained map: native features to pseudo-tokens in a single pass, without steps for each item."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.weights import read_weights, save_weights
from xgap_analysis.models.tower import Model
from xgap_analysis.views.inversion.invert import encode_pseudo_tokens, pseudo_forward
from xgap_analysis.views.inversion.settings import space_into

HELD = {"key": "inverter", "kind": "an amortised inverter"}  # in a file


@dataclass(frozen=True, eq=False)
class AmortisedInverter:
    """A linear map from features to pseudo-tokens, fitted through the frozen tower on other items' features.

    It is not the paper's inversion, but approximates its result in a single pass. Fit it on a split that is
    not evaluated.

    Args:
        weight: `[d, r * width]`.
        bias: `[r, width]`.
        space: of the features it takes.
        template: the prompt of OTI.
        weights_digest: of the model that it was fitted through.

    Example:
        >>> import xgap_analysis as xg
        >>> model, data = xg.load_model("tiny-untrained"), xg.load_dataset("emoji").split("val").limit(4)
        >>> images = xg.encode(model, data.images, progress=False)
        >>> inverter = xg.AmortisedInverter.fit(model, images, steps=1)
        >>> inverter.apply(model, images).space  # images, inverted into the text space
        'text'
    """

    weight: Tensor
    bias: Tensor
    space: str
    template: str
    weights_digest: str

    @classmethod
    def fit(
        cls,
        model: Model,
        features: Features,
        *,
        tokens: int = 1,
        template: str = "a photo of {}",
        steps: int = 500,
        lr: float = 5e-3,
        batch_size: int = 64,
        seed: int = 0,
    ) -> "AmortisedInverter":
        """Fits the map by AdamW on `1 - cos(feature of the pseudo-tokens, native feature)`, over random batches.

        Args:
            model: whose features these are.
            features: `[n, d]`, of space `"image"` or `"text"`.
            tokens: pseudo-tokens an item.
            template: the prompt of OTI.
            steps, lr, batch_size, seed: of the fit.

        Raises:
            XgapError: no features, or a template or space that does not work.
        """
        if not len(features):
            raise XgapError("there is nothing to fit an inverter on: the features are empty")
        into = space_into(features.space)
        forward, width = pseudo_forward(model, into, template, tokens), model.invertible(into).width
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode(False), torch.enable_grad():
            data = features.vectors.to(model.device).clone()
            weight = torch.zeros(features.dim, tokens * width, device=model.device, requires_grad=True)
            start = 0.02 * torch.randn(tokens, width, generator=generator)
            bias = start.to(model.device).requires_grad_()
            optimiser = torch.optim.AdamW([weight, bias], lr=lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            for _ in range(steps):
                batch = data[torch.randint(len(data), (min(batch_size, len(data)),), generator=generator)]
                found = forward((batch @ weight).unflatten(1, (tokens, width)) + bias)
                loss = (1 - F.cosine_similarity(found, batch)).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        return cls(weight.detach().cpu(), bias.detach().cpu(), features.space, template, model.weights_digest)

    def pseudo_tokens(self, features: Features) -> Tensor:
        """Pseudo-tokens `[n, r, width]` of features `[n, d]`.

        Raises:
            XgapError: features of another space or dimension.
        """
        if (features.space, features.dim) != (self.space, len(self.weight)):
            raise XgapError(
                f"the inverter takes features of space {self.space!r} and {len(self.weight)} dimensions, not of space "
                f"{features.space!r} and {features.dim}"
            )
        return (features.vectors.cpu() @ self.weight).unflatten(1, tuple(self.bias.shape)) + self.bias

    def apply(self, model: Model, features: Features) -> Features:
        """Inverted features `[n, d]`: the pseudo-tokens through the tower, ids and origin kept.

        Raises:
            XgapError: another model than it was fitted through, or features that do not fit.
        """
        if model.weights_digest != self.weights_digest:
            raise XgapError(
                f"the inverter was fitted through other weights than those of model {model.name!r}; fit anew"
            )
        into = space_into(self.space)
        vectors = encode_pseudo_tokens(model, self.pseudo_tokens(features), into, self.template)
        made = {"view": "amortised inversion", "model": model.name, "weights": model.weights_digest}
        about = {**made, "input": dict(features.provenance)}
        return Features(vectors, features.ids, into, features.origin, about, features.items)

    def save(self, path: str | Path) -> None:
        """Write the map to a `.safetensors` file, whole or not at all.

        Raises:
            XgapError: another suffix, or a place that cannot be written.
        """
        about = {"space": self.space, "template": self.template, "weights": self.weights_digest}
        save_weights({"weight": self.weight, "bias": self.bias}, path, **HELD, about=about)

    @classmethod
    def load(cls, path: str | Path) -> "AmortisedInverter":
        """The map in a file of `save`.

        Raises:
            XgapError: no such file, or a file of something else.
        """
        with read_weights(path, **HELD) as (about, held):
            return cls(held["weight"], held["bias"], about["space"], about["template"], about["weights"])
