"""`xgap encode`."""

from dataclasses import dataclass
from typing import Literal

from xgap_analysis.cli.arguments import Activation, File, Name, Number, Precision
from xgap_analysis.cli.output import say
from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Encode:
    """Encode the images or texts of a dataset, and keep the features in the store, or also in a file (--out).

    Example:
        xgap encode --model tiny --dataset emoji --split test --space image
        xgap encode --model ViT-B-32/openai --space text --out results/names.parquet
    """

    model: str = "tiny"
    """A model by name or path (see xgap models)."""
    dataset: str = "emoji"
    """A dataset by name (see xgap datasets)."""
    split: str = "test"
    """The split to encode."""
    space: str = "image"
    """The modality to encode: image, text, or another one that the dataset and the model have."""
    limit: Number = None
    """Encode only the items of this many labels."""
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
    """Precision of the model: fp32, or bf16 or fp16 (autocast, weights in half precision)."""
    batch_size: Number = None
    """Items that go through the model at once; by default what suits the device."""
    num_workers: Number = None
    """Processes that read images, 0 for threads; by default what suits the number of images and cores."""
    activation: Activation = None
    """Activation of a checkpoint file that does not store it (or name the model ViT-B-32-gelu//FILE)."""
    plugin: Plugins = ()
    """A Python file with your own models or datasets, which is run first."""
    out: File = None
    """Also write the features to this .safetensors, .npz or .parquet file."""
    quiet: bool = False
    """No progress and no notes; errors and warnings are printed all the same."""

    def run(self) -> int:
        """Encode and say where the features are."""
        from xgap_analysis.cli.features import check_out, encoded, print_where, split_of
        from xgap_analysis.views.native import native_view

        check_out(self.out)
        data = split_of(self.dataset, self.split, self.limit)
        _, features, _ = encoded(self, data, native_view(self.space))
        shape = list(features.vectors.shape)
        say(f"{self.space} features {shape} of {data.name} ({data.split_name}) by {self.model}")
        print_where(features, self.out)
        return 0
