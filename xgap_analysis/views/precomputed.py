"""Features that were computed elsewhere, as a view of a dataset's items."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import load_features
from xgap_analysis.views.view import register_view


@dataclass(frozen=True)
class Precomputed:
    """Stands where a model would, for features that were computed elsewhere: a name for tables, and no towers.

    Example:
        >>> from xgap_analysis.views import Precomputed
        >>> Precomputed().name
        'features'
    """

    name: str = "features"


@register_view("precomputed", modality="image")
def precomputed(model: Any, items: Any, path: str | Path, *, space: str = "image", key: str | None = None) -> Features:
    """The rows of a file of features (see `load_features`) that have the items' ids.

    Args:
        model: not used.
        items: their ids choose the rows.
        path: the file.
        space: where the file does not say it.
        key: as in `load_features`.

    Raises:
        XgapError: an item without a row in the file, or a file that cannot be read.
    """
    return load_features(path, space=space, key=key).select(items.ids)
