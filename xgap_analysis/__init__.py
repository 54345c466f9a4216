"""See, measure and repair what goes wrong inside one modality of CLIP-like models.

    import xgap_analysis as xg
    model = xg.load_model("tiny")
    data = xg.load_dataset("emoji").split("test")
    images = xg.encode(model, data.images)
    oti = xg.invert(model, images)
    xg.retrieval(images, images, data).mean()        # I-I
    xg.retrieval(oti.features, images, data).mean()  # OTI-I

Figures are in `xgap_analysis.plots`, explorers for notebooks in `xgap_analysis.widgets`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xgap_analysis.corrections import Calibration as Calibration
    from xgap_analysis.corrections import Correction as Correction
    from xgap_analysis.corrections import Rule as Rule
    from xgap_analysis.corrections import Sides as Sides
    from xgap_analysis.corrections import correction as correction
    from xgap_analysis.corrections import fuse as fuse
    from xgap_analysis.corrections import register as register_correction  # noqa: F401  its public name says what
    from xgap_analysis.datasets import Dataset as Dataset
    from xgap_analysis.datasets import Images as Images
    from xgap_analysis.datasets import Relevance as Relevance
    from xgap_analysis.datasets import Texts as Texts
    from xgap_analysis.datasets import as_dataset as as_dataset
    from xgap_analysis.datasets import load_dataset as load_dataset
    from xgap_analysis.encoding import encode as encode
    from xgap_analysis.errors import XgapError as XgapError
    from xgap_analysis.feature_study import FeatureStudy as FeatureStudy
    from xgap_analysis.features import Features as Features
    from xgap_analysis.features_io import load_features as load_features
    from xgap_analysis.features_io import save_features as save_features
    from xgap_analysis.inversion import Inversion as Inversion
    from xgap_analysis.inversion import encode_pseudo_tokens as encode_pseudo_tokens
    from xgap_analysis.inversion import invert as invert
    from xgap_analysis.inversion.amortised import AmortisedInverter as AmortisedInverter
    from xgap_analysis.metrics import bootstrap_interval as bootstrap_interval
    from xgap_analysis.metrics import gap_report as gap_report
    from xgap_analysis.metrics import hubness as hubness
    from xgap_analysis.metrics import misalignment as misalignment
    from xgap_analysis.metrics import paired_test as paired_test
    from xgap_analysis.metrics import retrieval as retrieval
    from xgap_analysis.metrics import similarity_histograms as similarity_histograms
    from xgap_analysis.metrics import zero_shot as zero_shot
    from xgap_analysis.models import load_model as load_model
    from xgap_analysis.reproduction import reproduce as reproduce
    from xgap_analysis.store import Store as Store
    from xgap_analysis.study import COMPARISONS as COMPARISONS
    from xgap_analysis.study import Comparison as Comparison
    from xgap_analysis.study import Study as Study
    from xgap_analysis.study import embedded_study as embedded_study
    from xgap_analysis.study import main_rows as main_rows
    from xgap_analysis.study import save_table as save_table
    from xgap_analysis.sweep import sweep as sweep
    from xgap_analysis.tables import summary as summary
    from xgap_analysis.training import Recipe as Recipe
    from xgap_analysis.training import train as train

# Each name is fetched when it is first used, so that `xgap --help` waits for nothing. Tests hold this table to the
# imports above, which are for type checkers and editors.
_HOME = {
    "AmortisedInverter": "inversion.amortised",
    "COMPARISONS": "study",
    "Calibration": "corrections",
    "Comparison": "study",
    "Correction": "corrections",
    "Dataset": "datasets",
    "FeatureStudy": "feature_study",
    "Features": "features",
    "Images": "datasets",
    "Inversion": "inversion",
    "Recipe": "training",
    "Relevance": "datasets",
    "Rule": "corrections",
    "Sides": "corrections",
    "Store": "store",
    "Study": "study",
    "Texts": "datasets",
    "XgapError": "errors",
    "as_dataset": "datasets",
    "bootstrap_interval": "metrics",
    "correction": "corrections",
    "embedded_study": "study",
    "encode": "encoding",
    "encode_pseudo_tokens": "inversion",
    "fuse": "corrections",
    "gap_report": "metrics",
    "hubness": "metrics",
    "invert": "inversion",
    "load_dataset": "datasets",
    "load_features": "features_io",
    "load_model": "models",
    "main_rows": "study",
    "misalignment": "metrics",
    "paired_test": "metrics",
    "register_correction": "corrections:register",
    "reproduce": "reproduction",
    "retrieval": "metrics",
    "save_features": "features_io",
    "save_table": "study",
    "similarity_histograms": "metrics",
    "summary": "tables",
    "sweep": "sweep",
    "train": "training",
    "zero_shot": "metrics",
}
_ROOMS = ("ablation", "corrections", "maps", "metrics", "plots", "widgets")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, _, own_name = _HOME[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{room}"), own_name or name)
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_ROOMS])
