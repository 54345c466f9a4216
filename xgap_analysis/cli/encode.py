"""`xgap encode`."""

from dataclasses import dataclass, replace

from xgap_analysis.cli.arguments import Number, OfItems
from xgap_analysis.cli.output import say


@dataclass(frozen=True)
class Encode(OfItems):
    """Encode the images or texts of a dataset, and keep the features in the store, or also in a file (--out).

    Example:
        xgap encode --model tiny --dataset emoji --split test --space image
        xgap encode --model ViT-B-32/openai --space text --out results/names.parquet
        xgap encode --model tiny --layer 3 --out results/third-block.npz
    """

    layer: Number = None
    """The features after this many blocks, read through what follows the last one; by default the model's own."""

    def run(self) -> int:
        """Encode and say where the features are."""
        from xgap_analysis.cli.features import check_out, encoded, print_where, split_of
        from xgap_analysis.views.native import native_view

        check_out(self.out)
        data = split_of(self.dataset, self.split, self.limit)
        own = native_view(self.space)
        own = own if self.layer is None else replace(own, options={"layer": self.layer})
        _, features, _ = encoded(self, data, own)
        shape = list(features.vectors.shape)
        where = "" if self.layer is None else f", layer {self.layer}"
        say(f"{self.space} features {shape} of {data.name} ({data.split_name}) by {self.model}{where}")
        print_where(features, self.out)
        return 0
