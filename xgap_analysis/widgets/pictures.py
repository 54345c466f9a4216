"""A figure inside a widget."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture_html(figure: "Figure", alt: str, dpi: int = 100) -> str:
    """A figure as an `<img>`, closed afterwards: an open one would be shown again by the next cell.

    Args:
        figure: drawn by a function of `xgap_analysis.plots`.
        alt: what it says, in words.
        dpi: dots per inch; the picture is shown at half that size on a fine screen.
    """
    import matplotlib.pyplot as plt

    stream = io.BytesIO()
    try:
        figure.savefig(stream, format="png", dpi=2 * dpi)
    finally:
        plt.close(figure)
    width = int(figure.get_figwidth() * dpi)
    coded = base64.b64encode(stream.getvalue()).decode()
    return f"<img src='data:image/png;base64,{coded}' alt='{escape(alt, quote=True)}' style='width:{width}px'>"
