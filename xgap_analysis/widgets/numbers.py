"""The numbers beside the gap map."""

from collections.abc import Mapping

import ipywidgets
import numpy as np

from xgap_analysis.widgets.scene import Scene, make_scene

TITLES = {
    "modality_gap": "modality gap",
    "zero_shot_top1": "zero-shot top-1",
    "ap_image_to_text": "I-T mean AP",
    "ap_text_to_image": "T-I mean AP",
}


class Numbers(ipywidgets.HTML):
    """The numbers before the move and after it; while those are computed, dots."""

    def __init__(self) -> None:
        self._first: Mapping[str, float] = {}
        super().__init__()

    def compute(self, scene: Scene) -> Mapping[str, float]:
        """The numbers of a scene, and those of the unmoved one where they are not known yet."""
        if not self._first:
            unmoved = make_scene(scene.evaluation, scene.plane.method, 0.0) if scene.lambda_ else scene
            self._first = unmoved.numbers
        return scene.numbers

    def show(self, lambda_: float, now: Mapping[str, float] | None = None) -> None:
        """Shows the numbers after a move, or that they are missing yet."""
        rows = "".join(
            f"<tr><td>{TITLES[name]}</td><td>{self._first.get(name, np.nan):.3f}</td>"
            f"<td><b>{'…' if now is None else f'{now[name]:.3f}'}</b></td></tr>"
            for name in (self._first if now is None else now)
        )
        head = f"<tr><td></td><td>λ = 0</td><td><b>λ = {lambda_:g}</b></td></tr>"
        self.value = f"<table class='xgap-numbers'>{head}{rows}</table>"
