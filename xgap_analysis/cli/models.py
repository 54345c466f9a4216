"""`xgap models`."""

from dataclasses import dataclass

from xgap_analysis.cli.output import print_rows, say
from xgap_analysis.cli.plugins import Plugins

COLUMNS = ("model", "available", "parameters", "ovi_tokens", "isoclip_image", "isoclip_text", "weights")


@dataclass(frozen=True)
class Models:
    """List the embedded models and the published backbones with the papers' settings, and how to name others.

    Example:
        xgap models
        xgap models --pretrained --json
    """

    pretrained: bool = False
    """Also list open_clip's other pretrained models, and whether their weights are in this machine's cache."""
    plugin: Plugins = ()
    """A Python file with your own models, which is run first."""
    json: bool = False
    """Print JSON, with the parameters of each tower."""

    def run(self) -> int:
        """Print one row for each model."""
        from xgap_analysis.models import inventory

        rows = inventory.models() + inventory.registered() + inventory.backbones()
        if self.pretrained:
            listed = {row["model"] for row in rows}
            others = [row for row in inventory.pretrained() if row["model"] not in listed]
            rows += [{**dict.fromkeys(rows[0]), **row} for row in others]
        if self.json:
            print_rows(rows, as_json=True)
            return 0
        print_rows([{column: row[column] for column in COLUMNS} for row in rows], as_json=False)
        say(
            "\navailable: in this installation, in the hub's cache, or in the folder that XGAP_WEIGHTS names\n"
            "ovi_tokens: published pseudo-patches P; isoclip: published (k_top, k_bottom) of each tower\n"
            "\nOthers, by name or path:\n"
            "  ViT-B-32/openai        an open_clip architecture and its weights (xgap models --pretrained)\n"
            "  hf-hub:ORG/REPO        an open_clip model on the Hugging Face hub\n"
            "  local-dir:PATH         a directory of open_clip, of transformers (CLIP, SigLIP) or of timm\n"
            "  ViT-B-32-gelu//FILE    an architecture and a checkpoint of your own, trained with GELU; or -quickgelu\n"
            "  FILE.json//FILE        an open_clip configuration and a checkpoint of your own; or FILE.json/random\n"
            "  SLIP-ViT-B-16//FILE    SLIP's own format; also CLIP-ViT-B-16, LongCLIP-ViT-B-16, and other sizes\n"
            "  timm:NAME              an image model of timm's, without a text tower; also timm:NAME//FILE\n"
            "  ViT-B-32/random        random weights, as a control; also timm:NAME/random"
        )
        return 0
