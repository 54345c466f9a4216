"""A figure inside a widget."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def alone(figure: "Figure") -> "Figure":
    """The figure, closed in pyplot and on its own canvas.

    An open one would be shown again by the next cell. And JupyterLab handles actions on another thread than cells: a
    cell that ends now would draw the figure into the buffer that is being written.
    """
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    plt.close(figure)
    FigureCanvasAgg(figure)
    return figure


def figure_html(figure: "Figure", alt: str, dpi: int = 100) -> str:
    """A figure as an `<img>`.

    Args:
        figure: drawn by a function of `xgap_analysis.plots`.
        alt: what it says, in words.
        dpi: dots per inch; the figure is shown at half that size on a high-resolution screen.
    """
    stream = io.BytesIO()
    alone(figure).savefig(stream, format="png", dpi=2 * dpi)
    width = int(figure.get_figwidth() * dpi)
    coded = base64.b64encode(stream.getvalue()).decode()
    return f"<img src='data:image/png;base64,{coded}' alt='{escape(alt, quote=True)}' style='width:{width}px'>"
