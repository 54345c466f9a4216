"""Explorers for notebooks: state and layout only; every number comes from the floors below.

Each is an ipywidgets box: the last expression of a cell shows it. All have a button that gives the code for what is on
screen and one that saves its figure and table.
"""

from xgap_analysis.widgets.board import VariantBoard as VariantBoard
from xgap_analysis.widgets.gapmap import GapMap as GapMap
from xgap_analysis.widgets.linked import link as link
from xgap_analysis.widgets.modalities import ModalityExplorer as ModalityExplorer
from xgap_analysis.widgets.neighbours import NeighbourExplorer as NeighbourExplorer
from xgap_analysis.widgets.player import InversionPlayer as InversionPlayer
from xgap_analysis.widgets.tokens import TokenExplorer as TokenExplorer
