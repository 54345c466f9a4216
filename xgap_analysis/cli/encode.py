"""`xgap encode`."""

from dataclasses import dataclass
from typing import Literal

from xgap_analysis.cli.arguments import Activation, File, Name, Number
from xgap_analysis.cli.output import say
from xgap_analysis.cli.plugins import Plugins


@dataclass(frozen=True)
class Encode:
    """Encode the images or the texts of a dataset; the features stay in the store, and in a file if you name one.

    Example:
        xgap encode --model tiny --dataset emoji --split test --space image
        xgap encode --model ViT-B-32/openai --space text --out results/names.parquet
    """

    model: str = "tiny"
    """A model by name or path (see xgap models)."""
    dataset: str = "emoji"
    """A dataset by name (see xgap datasets)."""
    split: str = "test"
    """Its split."""
    space: str = "image"
    """The modality to encode: image, text, or another one that the dataset and the model have."""
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
    """Write the features to a .safetensors, .npz or .parquet file too."""

    def run(self) -> int:
        """Encode and say where the features are."""
        from xgap_analysis.cli.features import check_out, encoded, split_of, tell_where

        check_out(self.out)
        data = split_of(self.dataset, self.split, self.limit)
        _, features = encoded(self, data)
        shape = list(features.vectors.shape)
        say(f"{self.space} features {shape} of {data.name} ({data.split_name}) by {self.model}")
        tell_where(features, self.out)
        return 0
