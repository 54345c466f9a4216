"""What the embedded models know, as their card says (`data/models/README.md`)."""

from xgap_analysis.models.catalog import embedded_models

IMAGES = "drawings (emoji and icons)"  # what every embedded model with trained weights was trained on


def trained_on(model: str) -> str:
    """The images that an embedded model was trained on, in words; nothing of another model, or of first weights.

    Example:
        >>> from xgap_analysis.models.cards import trained_on
        >>> trained_on("tiny"), trained_on("ViT-B-32/openai")
        ('drawings (emoji and icons)', '')
    """
    base = model.partition("+")[0]  # an adapted one sees as its base does
    return IMAGES if base in embedded_models() and "untrained" not in base else ""
