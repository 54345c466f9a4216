"""Models as frozen towers by modality: protocols, adapters, the published backbones, and loading by name."""

from xgap_analysis.models import oracle as oracle  # registers its name
from xgap_analysis.models.adaptation import ADAPTERS, Adapter, adapted, adapter, load_adapter, register_adapter
from xgap_analysis.models.adapters.encoder import as_model
from xgap_analysis.models.adapters.openclip import from_open_clip
from xgap_analysis.models.backbones import BACKBONES, Backbone, published
from xgap_analysis.models.catalog import embedded_models, load_model
from xgap_analysis.models.check import check_tower
from xgap_analysis.models.registered import MODELS, register_model
from xgap_analysis.models.tower import Invertible, Model, Tower
from xgap_analysis.models.video import FRAME_TOWERS, with_frames

__all__ = [
    "ADAPTERS",
    "BACKBONES",
    "FRAME_TOWERS",
    "MODELS",
    "Adapter",
    "Backbone",
    "Invertible",
    "Model",
    "Tower",
    "adapted",
    "adapter",
    "as_model",
    "check_tower",
    "embedded_models",
    "from_open_clip",
    "load_adapter",
    "load_model",
    "oracle",
    "published",
    "register_adapter",
    "register_model",
    "with_frames",
]
