"""`xgap invert`."""

from dataclasses import dataclass
from typing import Literal

from xgap_analysis.cli.arguments import Activation, File, Name, Number, Space
from xgap_analysis.cli.output import say
from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Invert:
    """Invert the features of images (OTI) or of texts (OVI) into the other modality.

    Example:
        xgap invert --model tiny --dataset emoji --space image --limit 20
        xgap invert --space text --steps 300 --tokens 2 --out results/ovi.safetensors
    """

    model: str = "tiny"
    """A model by name or path (see xgap models)."""
    dataset: str = "emoji"
    """A dataset by name (see xgap datasets)."""
    split: str = "test"
    """Its split."""
    space: Space = "image"
    """What is inverted: images, by textual inversion, or texts, by visual inversion."""
    steps: Number = None
    """Optimisation steps; the paper's by default (150 for images, 1000 for texts)."""
    tokens: Number = None
    """Pseudo-tokens for each item; the paper's by default."""
    seed: int = 42
    """What each item's start is drawn from, with its id."""
    limit: Number = None
    """Only the items of this many labels."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about an image that cannot be read."""
    device: Name = None
    """Where to compute: CUDA where there is one, else the CPU."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast."""
    activation: Activation = None
    """For a checkpoint file that does not say: quickgelu or gelu; so does its name, ViT-B-32-gelu//FILE."""
    plugin: Plugins = ()
    """A Python file with views, scorers or corrections of your own, which is run first."""
    out: File = None
    """Write the inverted features to a .safetensors, .npz or .parquet file too."""

    def run(self) -> int:
        """Invert and say where the features are, and how near they came."""
        from xgap_analysis.cli.features import check_out, encoded, split_of, tell_where
        from xgap_analysis.views.inversion.invert import invert

        check_out(self.out)
        data = split_of(self.dataset, self.split, self.limit)
        model, native = encoded(self, data)
        inversion = invert(model, native, steps=self.steps, tokens=self.tokens, seed=self.seed)
        view = "OTI" if self.space == "image" else "OVI"
        shape = list(inversion.features.vectors.shape)
        say(f"{view} features {shape} of the {self.space}s of {data.name} ({data.split_name}) by {self.model}")
        reached = (inversion.features.vectors * native.vectors).sum(1).mean()
        say(f"their cosine to the native features: {float(reached):.4f} on average")
        tell_where(inversion.features, self.out)
        return 0
