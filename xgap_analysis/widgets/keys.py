"""Keys that stay in an explorer: without this JupyterLab takes arrows and letters for commands of the notebook."""

import anywidget

SCRIPT = """
function render({ el }) {
  el.style.display = "none";
  const mark = tries => {  // the element stands in its explorer a moment after it is made
    const explorer = el.closest(".xgap");
    if (explorer) explorer.setAttribute("data-lm-suppress-shortcuts", "true");
    else if (tries) setTimeout(mark, 100, tries - 1);
  };
  mark(300);
}
export default { render };
"""


class OwnKeys(anywidget.AnyWidget):
    """An invisible part of an explorer, by which JupyterLab leaves it the keys pressed in it.

    In command mode JupyterLab moves from cell to cell at an arrow key, also where a list of an output has the focus.
    """

    _esm = SCRIPT
