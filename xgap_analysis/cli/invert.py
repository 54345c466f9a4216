"""`xgap invert`."""

from dataclasses import dataclass
from typing import Literal

from xgap_analysis.cli.arguments import Activation, File, Name, Number, Precision, Space
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
    """The split to invert."""
    space: Space = "image"
    """The modality to invert: images (by textual inversion) or texts (by visual inversion)."""
    steps: Number = None
    """Optimisation steps; by default as in the paper (150 for images, 1000 for texts)."""
    tokens: Number = None
    """Pseudo-tokens per item; by default as in the paper."""
    seed: int = 42
    """Seed of the random start, which also depends on the item's id."""
    limit: Number = None
    """Invert only the items of this many labels."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be read."""
    engine: str = "local"
    """Who computes: local, this process; ranks, one of the processes that torchrun, srun or a Slurm array has started
    on one store; ray, the workers of a Ray cluster. With options: "ranks(patience=60)", "ray(workers=4, gpus=0.5)"."""
    retry_failed: bool = False
    """Compute items again whose failure is kept (an image that could not be read)."""
    device: Name = None
    """Device, such as cuda:1; by default a GPU if there is one."""
    precision: Precision = "fp32"
    """Precision of the model and of the inversion: fp32, or bf16 or fp16 (autocast, weights in half precision)."""
    batch_size: Number = None
    """Items that are encoded, and inverted, at once; by default what suits the device."""
    num_workers: Number = None
    """Processes that read images, 0 for threads; by default what suits the number of images and cores."""
    activation: Activation = None
    """Activation of a checkpoint file that does not store it (or name the model ViT-B-32-gelu//FILE)."""
    plugin: Plugins = ()
    """A Python file with your own models or datasets, which is run first."""
    out: File = None
    """Also write the inverted features to this .safetensors, .npz or .parquet file."""
    quiet: bool = False
    """No progress and no notes; errors and warnings are printed all the same."""

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
