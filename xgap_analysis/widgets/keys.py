"""Keys that stay in an explorer: without this JupyterLab takes arrows and letters for commands of the notebook."""

import anywidget

SCRIPT = """
function render({ el }) {
  el.style.display = "none";
  const mark = event => event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  const listen = tries => {  // the element stands in its explorer a moment after it is made
    const explorer = el.closest(".xgap");
    if (explorer) explorer.addEventListener("focusin", mark);
    else if (tries) setTimeout(listen, 100, tries - 1);
  };
  listen(300);
}
export default { render };
"""


class OwnKeys(anywidget.AnyWidget):
    """An invisible part of an explorer, by which JupyterLab leaves it the keys pressed in it.

    In command mode JupyterLab moves from cell to cell at an arrow key, also where a list of an output has the focus. It
    looks for its mark from that list upwards, but for its command's selector first: the list itself must have the mark.
    """

    _esm = SCRIPT
