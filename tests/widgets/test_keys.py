"""Every explorer keeps its keys from JupyterLab; that this works is seen in the browser test."""

from typing import Any

from xgap_analysis import widgets
from xgap_analysis.widgets.keys import OwnKeys


def test_every_explorer_keeps_its_keys(evaluation: Any) -> None:
    for panel in (widgets.NeighbourExplorer(evaluation), widgets.VariantBoard(evaluation.study)):
        assert sum(isinstance(child, OwnKeys) for child in panel.children) == 1
