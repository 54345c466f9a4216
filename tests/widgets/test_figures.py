"""Figures inside widgets: whole, whatever else goes on."""

import threading

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from xgap_analysis.widgets.figures import figure_html


def drawn() -> Figure:
    fig, ax = plt.subplots(figsize=(3, 1))
    ax.plot(range(50), "o-")
    ax.set(xlabel="x", ylabel="y", title="title")
    return fig


def test_a_cell_that_shows_the_figure_meanwhile_does_not_spoil_it() -> None:
    undisturbed = figure_html(drawn(), "a line")
    figure = drawn()
    canvas, ended = figure.canvas, threading.Event()

    def show_again() -> None:  # as the inline backend does it when a cell ends
        while not ended.is_set():
            canvas.get_renderer().clear()

    other = threading.Thread(target=show_again)
    other.start()
    try:
        drawings = {figure_html(figure, "a line") for _ in range(5)}
    finally:
        ended.set()
        other.join()
    assert drawings == {undisturbed}
    assert not plt.get_fignums()


def test_words_stay_words() -> None:
    assert "alt='&lt;b&gt; &#x27;'" in figure_html(drawn(), "<b> '")
