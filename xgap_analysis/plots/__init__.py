"""Figures from tables and Features. Each function draws on Axes (or makes a Figure), returns it, and shows nothing."""

from xgap_analysis.plots.ablations import over_settings as over_settings
from xgap_analysis.plots.ablations import runs as runs
from xgap_analysis.plots.atlas import atlas as atlas
from xgap_analysis.plots.comparisons import differences as differences
from xgap_analysis.plots.comparisons import grid as grid
from xgap_analysis.plots.comparisons import values as values
from xgap_analysis.plots.contrasts import trade_offs as trade_offs
from xgap_analysis.plots.dynamics import drift as drift
from xgap_analysis.plots.gap import gap_map as gap_map
from xgap_analysis.plots.gap import gap_share as gap_share
from xgap_analysis.plots.gap import shift_curve as shift_curve
from xgap_analysis.plots.geometry import occurrences as occurrences
from xgap_analysis.plots.geometry import spectrum as spectrum
from xgap_analysis.plots.geometry import sweep_curve as sweep_curve
from xgap_analysis.plots.inversion_step import inversion_step as inversion_step
from xgap_analysis.plots.plane import modalities as modalities
from xgap_analysis.plots.plane import plane as plane
from xgap_analysis.plots.queries import by_class as by_class
from xgap_analysis.plots.queries import per_query as per_query
from xgap_analysis.plots.ranked import ranked as ranked
from xgap_analysis.plots.ranking import neighbours as neighbours
from xgap_analysis.plots.similarity import cosines as cosines
from xgap_analysis.plots.similarity import densities as densities
from xgap_analysis.plots.structure import agreement as agreement
from xgap_analysis.plots.token_pairs import token_pairs as token_pairs
