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
    from xgap_analysis.core.calibration import Calibration as Calibration
    from xgap_analysis.core.errors import XgapError as XgapError
    from xgap_analysis.core.features import Features as Features
    from xgap_analysis.core.features import as_features as as_features
    from xgap_analysis.core.features_io import load_features as load_features
    from xgap_analysis.core.features_io import save_features as save_features
    from xgap_analysis.core.mapped import open_features as open_features
    from xgap_analysis.core.mixed import mixed as mixed
    from xgap_analysis.core.predictions import load_predictions as load_predictions
    from xgap_analysis.core.relevance import Relevance as Relevance
    from xgap_analysis.core.stacked import grouped as grouped
    from xgap_analysis.core.stacked import stacked as stacked
    from xgap_analysis.core.tokens import TokenFeatures as TokenFeatures
    from xgap_analysis.core.tokens_io import load_tokens as load_tokens
    from xgap_analysis.core.tokens_io import save_tokens as save_tokens
    from xgap_analysis.corrections import Correction as Correction
    from xgap_analysis.corrections import QueryGallery as QueryGallery
    from xgap_analysis.corrections import ScoreCorrection as ScoreCorrection
    from xgap_analysis.corrections import correction as correction
    from xgap_analysis.corrections import register_correction as register_correction
    from xgap_analysis.datasets import Dataset as Dataset
    from xgap_analysis.datasets import Images as Images
    from xgap_analysis.datasets import Items as Items
    from xgap_analysis.datasets import Texts as Texts
    from xgap_analysis.datasets import as_dataset as as_dataset
    from xgap_analysis.datasets import load_dataset as load_dataset
    from xgap_analysis.datasets import register_dataset as register_dataset
    from xgap_analysis.experiments.choice import chosen as chosen
    from xgap_analysis.experiments.comparison import COMPARISONS as COMPARISONS
    from xgap_analysis.experiments.comparison import Comparison as Comparison
    from xgap_analysis.experiments.comparison import comparison as comparison
    from xgap_analysis.experiments.papers.reproduction import reproduce as reproduce
    from xgap_analysis.experiments.study import Study as Study
    from xgap_analysis.experiments.table_files import save_table as save_table
    from xgap_analysis.experiments.tables import embedded_table as embedded_table
    from xgap_analysis.experiments.tables import main_rows as main_rows
    from xgap_analysis.experiments.tables import summary as summary
    from xgap_analysis.experiments.vectors import study_of_features as study_of_features
    from xgap_analysis.metrics import bootstrap_interval as bootstrap_interval
    from xgap_analysis.metrics import compare_vectors as compare_vectors
    from xgap_analysis.metrics import gap_report as gap_report
    from xgap_analysis.metrics import gap_table as gap_table
    from xgap_analysis.metrics import hubness as hubness
    from xgap_analysis.metrics import metric as metric
    from xgap_analysis.metrics import misalignment as misalignment
    from xgap_analysis.metrics import modality_share as modality_share
    from xgap_analysis.metrics import paired_test as paired_test
    from xgap_analysis.metrics import rank_among as rank_among
    from xgap_analysis.metrics import register_metric as register_metric
    from xgap_analysis.metrics import retrieval as retrieval
    from xgap_analysis.metrics import similarity_histograms as similarity_histograms
    from xgap_analysis.metrics import zero_shot as zero_shot
    from xgap_analysis.models import Adapter as Adapter
    from xgap_analysis.models import Model as Model
    from xgap_analysis.models import adapted as adapted
    from xgap_analysis.models import adapter as adapter
    from xgap_analysis.models import as_model as as_model
    from xgap_analysis.models import check_tower as check_tower
    from xgap_analysis.models import load_adapter as load_adapter
    from xgap_analysis.models import load_model as load_model
    from xgap_analysis.models import register_adapter as register_adapter
    from xgap_analysis.models import register_model as register_model
    from xgap_analysis.models import with_frames as with_frames
    from xgap_analysis.scoring import Scorer as Scorer
    from xgap_analysis.scoring import fit_scorer as fit_scorer
    from xgap_analysis.scoring import load_scorer as load_scorer
    from xgap_analysis.scoring import register_scorer as register_scorer
    from xgap_analysis.scoring import save_scorer as save_scorer
    from xgap_analysis.scoring import score as score
    from xgap_analysis.scoring import scorer as scorer
    from xgap_analysis.scoring import token_pairs as token_pairs
    from xgap_analysis.store import Store as Store
    from xgap_analysis.training import BatchFeatures as BatchFeatures
    from xgap_analysis.training import Further as Further
    from xgap_analysis.training import GivenScores as GivenScores
    from xgap_analysis.training import Needs as Needs
    from xgap_analysis.training import Recipe as Recipe
    from xgap_analysis.training import Term as Term
    from xgap_analysis.training import fit_frames as fit_frames
    from xgap_analysis.training import fit_joint as fit_joint
    from xgap_analysis.training import objective as objective
    from xgap_analysis.training import recipe as recipe
    from xgap_analysis.training import register_objective as register_objective
    from xgap_analysis.training import register_recipe as register_recipe
    from xgap_analysis.training import train as train
    from xgap_analysis.views import View as View
    from xgap_analysis.views import encode as encode
    from xgap_analysis.views import fuse as fuse
    from xgap_analysis.views import fuse_modalities as fuse_modalities
    from xgap_analysis.views import register_parts as register_parts
    from xgap_analysis.views import register_view as register_view
    from xgap_analysis.views import tokens as tokens
    from xgap_analysis.views import view as view
    from xgap_analysis.views.inversion.amortised import AmortisedInverter as AmortisedInverter
    from xgap_analysis.views.inversion.invert import Inversion as Inversion
    from xgap_analysis.views.inversion.invert import encode_pseudo_tokens as encode_pseudo_tokens
    from xgap_analysis.views.inversion.invert import invert as invert

# Each name is fetched when it is first used, so that `xgap --help` waits for nothing. Tests hold this table to the
# imports above, which are for type checkers and editors.
_HOME = {
    "Adapter": "models",
    "AmortisedInverter": "views.inversion.amortised",
    "BatchFeatures": "training",
    "COMPARISONS": "experiments.comparison",
    "Calibration": "core.calibration",
    "Comparison": "experiments.comparison",
    "Correction": "corrections",
    "Dataset": "datasets",
    "Features": "core.features",
    "Further": "training",
    "GivenScores": "training",
    "Images": "datasets",
    "Inversion": "views.inversion.invert",
    "Items": "datasets",
    "Model": "models",
    "Needs": "training",
    "QueryGallery": "corrections",
    "Recipe": "training",
    "Relevance": "core.relevance",
    "ScoreCorrection": "corrections",
    "Scorer": "scoring",
    "Store": "store",
    "Study": "experiments.study",
    "Term": "training",
    "Texts": "datasets",
    "TokenFeatures": "core.tokens",
    "View": "views",
    "XgapError": "core.errors",
    "adapted": "models",
    "adapter": "models",
    "as_dataset": "datasets",
    "as_features": "core.features",
    "as_model": "models",
    "bootstrap_interval": "metrics",
    "check_tower": "models",
    "chosen": "experiments.choice",
    "compare_vectors": "metrics",
    "comparison": "experiments.comparison",
    "correction": "corrections",
    "embedded_table": "experiments.tables",
    "encode": "views",
    "encode_pseudo_tokens": "views.inversion.invert",
    "fit_frames": "training",
    "fit_joint": "training",
    "fit_scorer": "scoring",
    "fuse": "views",
    "fuse_modalities": "views",
    "gap_report": "metrics",
    "gap_table": "metrics",
    "grouped": "core.stacked",
    "hubness": "metrics",
    "invert": "views.inversion.invert",
    "load_adapter": "models",
    "load_dataset": "datasets",
    "load_features": "core.features_io",
    "open_features": "core.mapped",
    "load_model": "models",
    "load_predictions": "core.predictions",
    "load_scorer": "scoring",
    "load_tokens": "core.tokens_io",
    "main_rows": "experiments.tables",
    "metric": "metrics",
    "misalignment": "metrics",
    "mixed": "core.mixed",
    "modality_share": "metrics",
    "objective": "training",
    "paired_test": "metrics",
    "rank_among": "metrics",
    "recipe": "training",
    "register_adapter": "models",
    "register_correction": "corrections",
    "register_dataset": "datasets",
    "register_metric": "metrics",
    "register_model": "models",
    "register_objective": "training",
    "register_parts": "views",
    "register_recipe": "training",
    "register_scorer": "scoring",
    "register_view": "views",
    "reproduce": "experiments.papers.reproduction",
    "retrieval": "metrics",
    "save_features": "core.features_io",
    "save_scorer": "scoring",
    "save_table": "experiments.table_files",
    "save_tokens": "core.tokens_io",
    "score": "scoring",
    "scorer": "scoring",
    "similarity_histograms": "metrics",
    "stacked": "core.stacked",
    "study_of_features": "experiments.vectors",
    "summary": "experiments.tables",
    "token_pairs": "scoring",
    "tokens": "views",
    "train": "training",
    "view": "views",
    "with_frames": "models",
    "zero_shot": "metrics",
}
_ROOMS = ("corrections", "experiments", "metrics", "plots", "widgets")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            from xgap_analysis.core.errors import missing_extra

            raise missing_extra(f"xgap_analysis.{name}", error) from error
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, _, own_name = _HOME[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{room}"), own_name or name)
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_ROOMS])
