"""A slider over given values that has a name for screen readers, and a button that plays them."""

from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

SCRIPT = """
function render({ model, el }) {
  const made = (kind, into) => into.appendChild(document.createElement(kind));
  const texts = model.get("texts"), pace = model.get("pace");
  const play = pace ? made("button", el) : null;
  const label = made("label", el), range = made("input", el), said = made("output", el);
  let timer = null;
  el.classList.add("xgap-slider");
  range.id = "xgap-" + model.model_id + "-" + Math.random().toString(36).slice(2);  // the same model may be shown twice
  label.htmlFor = range.id;
  label.textContent = model.get("description");
  Object.assign(range, { type: "range", min: 0, max: texts.length - 1, step: 1 });
  const show = () => {
    said.textContent = texts[range.value];
    range.setAttribute("aria-valuetext", texts[range.value]);
  };
  const send = () => { model.set("index", Number(range.value)); model.save_changes(); };
  const moved = () => { range.value = model.get("index"); show(); };
  const stop = () => { clearInterval(timer); timer = null; name(); };
  const next = () => {
    if (Number(range.value) >= texts.length - 1) return stop();
    range.value = Number(range.value) + 1;
    show(); send();
  };
  const name = () => {
    if (!play) return;
    play.textContent = timer ? "❚❚" : "▶";
    play.ariaLabel = play.title = timer ? "pause" : "play the steps";
  };
  range.addEventListener("input", show);
  range.addEventListener("change", send);
  model.on("change:index", moved);
  if (play) play.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(range.value) >= texts.length - 1) { range.value = 0; show(); send(); }
    timer = setInterval(next, pace);
    name();
  });
  moved(); name();
  return () => { clearInterval(timer); model.off("change:index", moved); };
}
export default { render };
"""
LOOK = """
.xgap-slider { display: flex; align-items: center; gap: 8px; margin: 2px; font-size: 13px; line-height: 28px; }
.xgap-slider label { flex: 0 0 auto; min-width: 80px; text-align: right; }
.xgap-slider input { flex: 1 1 80px; min-width: 60px; margin: 0; accent-color: #0072B2; }
.xgap-slider output { flex: 0 0 32px; font-variant-numeric: tabular-nums; }
.xgap-slider button { width: 36px; height: 28px; border: 1px solid #767676; background: #FFF; color: #111; }
"""


class Slider(anywidget.AnyWidget):
    """A slider over given values. It sends one when it is let go, or after each press of an arrow key.

    The sliders of ipywidgets have no name for screen readers, and neither have the buttons of its `Play`.

    Args:
        values: from left to right, distinct.
        value: the first one; the nearest of the values is taken, as whenever `value` is set.
        description: what stands beside it, and its name.
        pace: milliseconds between two values of the button that plays them; without one there is no button.
        width: of all of it.

    Attributes:
        value: the chosen one.
    """

    _esm, _css = SCRIPT, LOOK
    value = traitlets.Any()
    index = traitlets.Int().tag(sync=True)
    texts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
    pace = traitlets.Int().tag(sync=True)

    def __init__(
        self, values: Sequence[float], value: float, description: str, pace: int = 0, width: str = "330px"
    ) -> None:
        self.values = list(values)
        nearest = self._nearest(value)
        super().__init__(
            value=self.values[nearest],
            index=nearest,
            texts=[f"{v:g}" for v in self.values],
            description=description,
            pace=pace,
            layout={"width": width},
        )

    def _nearest(self, value: float) -> int:
        return min(range(len(self.values)), key=lambda k: abs(self.values[k] - value))

    @traitlets.validate("value")
    def _one_of_the_values(self, proposal: Any) -> Any:
        return self.values[self._nearest(proposal["value"])]

    @traitlets.observe("value")
    def _move(self, change: Any) -> None:
        self.index = self._nearest(change["new"])

    @traitlets.observe("index")
    def _choose(self, change: Any) -> None:
        self.value = self.values[change["new"]]
