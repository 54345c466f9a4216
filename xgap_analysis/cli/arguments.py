"""Arguments that several sub-commands share, and their types."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from xgap_analysis.cli.plugins import Plugins

Number = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Precision = Literal["fp32", "bf16", "fp16"]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
Activation = Annotated[
    Literal["quickgelu", "gelu"] | None, tyro.conf.arg(metavar="{quickgelu,gelu}", help_behavior_hint="")
]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True)
class OfItems:
    """The arguments of a command that computes features of the items of one modality of a dataset."""

    model: str = "tiny"
    """A model by name or path (see xgap models)."""
    dataset: str = "emoji"
    """A dataset by name (see xgap datasets)."""
    split: str = "test"
    """The split whose items these are."""
    space: str = "image"
    """The modality of the items: image, text, or another one that the dataset and the model have."""
    limit: Number = None
    """Only the items of this many labels."""
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
    """Precision of the model, and of an inversion: fp32, or bf16 or fp16 (autocast, weights in half precision)."""
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
