"""`xgap invert`."""

from dataclasses import dataclass
from typing import Literal

from xgap_analysis.cli.arguments import Number, OfItems
from xgap_analysis.cli.output import say


@dataclass(frozen=True)
class Invert(OfItems):
    """Invert the features of images (OTI) or of texts (OVI) into the other modality.

    Example:
        xgap invert --model tiny --dataset emoji --space image --limit 20
        xgap invert --space text --steps 300 --tokens 2 --out results/ovi.safetensors
    """

    space: Literal["image", "text"] = "image"
    """The modality to invert: images (by textual inversion) or texts (by visual inversion)."""
    steps: Number = None
    """Optimisation steps; by default as in the paper (150 for images, 1000 for texts)."""
    tokens: Number = None
    """Pseudo-tokens per item; by default as in the paper."""
    seed: int = 42
    """Seed of the random start, which also depends on the item's id."""

    def run(self) -> int:
        """Invert, and print where the features are and how close they are to the native ones."""
        from xgap_analysis.cli.features import check_out, encoded, print_where, split_of
        from xgap_analysis.views import view
        from xgap_analysis.views.inversion.invert import invert

        check_out(self.out)
        data = split_of(self.dataset, self.split, self.limit)
        name = "oti" if self.space == "image" else "ovi"
        options = {"steps": self.steps, "tokens": self.tokens, "seed": self.seed}
        own = view(name, **{option: value for option, value in options.items() if value is not None})
        model, native, store = encoded(self, data, own)
        inversion = invert(
            model,
            native,
            steps=self.steps,
            tokens=self.tokens,
            seed=self.seed,
            batch_size=self.batch_size,
            store=store,
        )
        shape = list(inversion.features.vectors.shape)
        say(f"{name.upper()} features {shape} of the {self.space}s of {data.name} ({data.split_name}) by {self.model}")
        reached = (inversion.features.vectors * native.vectors).sum(1).mean()
        say(f"their cosine to the native features: {float(reached):.4f} on average")
        print_where(inversion.features, self.out)
        return 0
