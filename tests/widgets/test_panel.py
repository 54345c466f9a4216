"""What all explorers share: light to import, errors in place, keyboard and names for what is clicked."""

import json
import subprocess
import sys
from typing import Any

import ipywidgets
import pytest

import xgap_analysis as xg
from xgap_analysis import widgets
from xgap_analysis.widgets.heat import HeatTable
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.slider import Slider

# Screen readers do not learn what these are for, whatever their description says.
WITHOUT_A_NAME = (ipywidgets.FloatSlider, ipywidgets.IntSlider, ipywidgets.SelectionSlider, ipywidgets.Play)
SLOW = {"jscatter", "umap", "matplotlib", "seaborn", "sklearn", "open_clip", "timm"}


def test_the_room_is_imported_without_anything_slow() -> None:
    code = (
        "import json, sys; from xgap_analysis import widgets; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert SLOW & set(json.loads(done.stdout)) == set()


def every(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    return [widget, *(below for child in getattr(widget, "children", ()) for below in every(child))]


@pytest.fixture
def panels(evaluation: Any) -> list[Panel]:
    return [
        widgets.NeighbourExplorer(evaluation),
        widgets.GapMap(evaluation),
        widgets.ModalityExplorer(evaluation),
        widgets.InversionPlayer(evaluation, (0, 5)),
        widgets.VariantBoard(evaluation.study),
    ]


def test_whatever_can_be_clicked_is_a_button_with_a_name(panels: list[Panel]) -> None:
    for panel in panels:
        assert isinstance(panel, ipywidgets.VBox)
        buttons = [w for w in every(panel) if isinstance(w, ipywidgets.Button)]
        assert len(buttons) >= 3
        assert [b for b in buttons if not (b.description or b.tooltip)] == []
        assert [w for w in every(panel) if getattr(w, "tabbable", None) is False] == []
        assert [w for w in every(panel) if isinstance(w, WITHOUT_A_NAME)] == []
        choices = [w for w in every(panel) if isinstance(w, ipywidgets.Select | ipywidgets.Dropdown | Slider)]
        assert [w for w in choices if not w.description] == []
        assert repr(panel).startswith(f"<{type(panel).__name__}: open the notebook")


def test_errors_are_a_sentence_and_markup_in_them_is_text(evaluation: Any) -> None:
    panel = widgets.NeighbourExplorer(evaluation)
    panel.show_error(xg.XgapError("there is no\n<b>such</b> thing"))
    assert "there is no &lt;b&gt;such&lt;/b&gt; thing" in panel._error.value
    assert "role='alert'" in panel._error.value

    def broken() -> None:
        raise KeyError("nowhere")

    panel.guarded(broken)
    assert panel.error.startswith("this is a fault of the widget, please report it: KeyError")
    panel.refresh()
    assert panel.error == ""


def test_a_study_is_not_an_evaluation(evaluation: Any) -> None:
    for explorer in (widgets.NeighbourExplorer, widgets.GapMap, widgets.InversionPlayer):
        with pytest.raises(xg.XgapError, match=r"\(evaluation,\) = study.evaluations\(\)"):
            explorer(evaluation.study)


def test_a_results_folder_that_cannot_be_written_is_said(evaluation: Any, xgap_home: Any, monkeypatch: Any) -> None:
    (xgap_home / "file").write_text("no folder")
    monkeypatch.setenv("XGAP_RESULTS", str(xgap_home / "file"))
    panel = widgets.NeighbourExplorer(evaluation)
    panel._save_button.click()
    assert "cannot be written (File exists); XGAP_RESULTS names another folder" in panel.error


def pixels(widget: ipywidgets.Widget) -> int:
    """The width that a widget has in any case."""
    given = [getattr(widget.layout, name) for name in ("width", "min_width")]
    return max([int(size.removesuffix("px")) for size in given if size and size.endswith("px")], default=0)


def test_nothing_is_wider_than_a_narrow_notebook(panels: list[Panel]) -> None:
    """At 900 pixels JupyterLab leaves about 640 to an output: what is beside one another goes to the next line."""
    for panel in panels:
        inside = [w for w in every(panel) if not isinstance(w, HeatTable)]
        tables = [w for heat in every(panel) if isinstance(heat, HeatTable) for w in every(heat)]  # they scroll alone
        for widget in [w for w in inside if w not in tables]:
            assert pixels(widget) <= 600
            children = getattr(widget, "children", ())
            if isinstance(widget, ipywidgets.HBox) and sum(map(pixels, children)) > 600:
                assert widget.layout.flex_flow == "row wrap", [type(child).__name__ for child in children]
