"""Models as two frozen towers: protocols, adapters over open_clip, the published backbones, and loading by name."""

from xgap_analysis.models.adapters.openclip import from_open_clip
from xgap_analysis.models.backbones import BACKBONES, Backbone, published
from xgap_analysis.models.catalog import embedded_models, load_model
from xgap_analysis.models.tower import Model, Tower

__all__ = [
    "BACKBONES",
    "Backbone",
    "Model",
    "Tower",
    "embedded_models",
    "from_open_clip",
    "load_model",
    "published",
]
