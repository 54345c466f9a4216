"""How items become features: encoded, inverted, fused, or read from a file.

A view is a function of (model, items, options) with a name; `register_view` makes one of your own known.
"""

from xgap_analysis.views import (  # noqa: F401  they register theirs
    composed,
    documents,
    ensemble,
    fusion,
    inverted,
    native,
    precomputed,
    semobridge,
    sets,
)
from xgap_analysis.views.described import DescribedItem as DescribedItem
from xgap_analysis.views.described import described as described
from xgap_analysis.views.encode import encode as encode
from xgap_analysis.views.fusion import fuse as fuse
from xgap_analysis.views.fusion import fuse_modalities as fuse_modalities
from xgap_analysis.views.precomputed import Precomputed as Precomputed
from xgap_analysis.views.sets import register_parts as register_parts
from xgap_analysis.views.sets import tokens as tokens
from xgap_analysis.views.view import VIEWS as VIEWS
from xgap_analysis.views.view import View as View
from xgap_analysis.views.view import register_view as register_view
from xgap_analysis.views.view import view as view
