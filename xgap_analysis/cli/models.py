"""`xgap models`."""

from dataclasses import dataclass

from xgap_analysis.cli.output import print_rows, say


@dataclass(frozen=True)
class Models:
    """List the models that come with the package, and how to name others.

    Example:
        xgap models
        xgap models --pretrained --json
    """

    pretrained: bool = False
    """List open_clip's pretrained models too, and whether their weights are in the cache of this machine."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each model."""
        from xgap_analysis import inventory

        rows = inventory.models()
        if self.pretrained:
            rows += [{**dict.fromkeys(rows[0]), **row} for row in inventory.pretrained()]
        print_rows(rows, self.json)
        if not self.json:
            say(
                "\nOthers, by name or path:\n"
                "  ViT-B-32/openai        an open_clip architecture and its weights (xgap models --pretrained)\n"
                "  hf-hub:ORG/REPO        an open_clip model on the Hugging Face hub\n"
                "  local-dir:PATH         a directory with open_clip_config.json, weights and tokenizer\n"
                "  ViT-B-32//FILE         an architecture and a checkpoint of your own\n"
                "  ViT-B-32/random        random weights, as a control"
            )
        return 0
