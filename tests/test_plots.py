"""Figures: what is drawn is what the numbers say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

mpl.use("agg")

from xgap_analysis import plots
from xgap_analysis.datasets import Images, Relevance
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features
from xgap_analysis.inversion import Inversion
from xgap_analysis.metrics import retrieval, similarity_histograms, variance_along_gap

LABELS = {f"i{k}": "ab"[k % 2] for k in range(8)}


@pytest.fixture(autouse=True)
def _close() -> object:
    yield
    plt.close("all")


def items(seed: int, space: str = "image") -> Features:
    vectors = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed))
    return Features(vectors, list(LABELS), space, "image")


def relevance() -> Relevance:
    return Relevance.from_labels(LABELS, LABELS)


def table() -> pd.DataFrame:
    rows = []
    for name, middle, verdict in (("OTI-I", 0.1, "supported"), ("OTI-OTI", -0.2, "lower"), ("I-I", np.nan, None)):
        rows.append(
            {
                "model": "m",
                "split": "test",
                "correction": "none",
                "comparison": name,
                "baseline": "I-I",
                "main": True,
                "difference": middle,
                "difference_low": middle - 0.05,
                "difference_high": middle + 0.05,
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def test_differences_draws_each_comparison_at_its_value_with_its_interval_and_verdict() -> None:
    ax = plots.differences(table())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["OTI-OTI − I-I", "OTI-I − I-I"]
    spans = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2][:2]
    assert np.allclose(spans, [[-0.25, -0.15], [0.05, 0.15]])
    assert [t.get_text() for t in ax.texts] == ["lower", "supported"]


def test_a_table_without_differences_is_refused() -> None:
    with pytest.raises(XgapError, match="no comparison with a baseline"):
        plots.differences(table().query("comparison == 'I-I'"))


def test_neighbours_are_the_most_similar_items_with_the_hits_marked() -> None:
    features = items(0)
    images = Images(list(LABELS), lambda _: Image.new("RGB", (4, 4)))
    figure = plots.neighbours("i3", {"I-I": (features, features)}, images, relevance(), k=4)
    cosines = (features.vectors @ features.vectors[3]).tolist()
    expected = sorted((k for k in range(8) if k != 3), key=lambda k: -cosines[k])[:4]
    titles = [ax.get_title() for ax in figure.axes][1:]
    assert ["✓" in title for title in titles] == [k % 2 == 1 for k in expected]
    assert [float(title.split()[-1]) for title in titles] == [pytest.approx(cosines[k], abs=0.006) for k in expected]


def test_drift_draws_the_mean_of_each_snapshot_and_of_the_native_query() -> None:
    native, snapshots = items(0), {0: items(1, "text"), 5: items(2, "text")}
    left, right = plots.drift(snapshots, native, relevance(), native).axes
    means = [retrieval(f, native, relevance())["ap"].mean() for f in (*snapshots.values(), native)]
    assert left.lines[0].get_ydata() == pytest.approx(means[:2])
    assert left.lines[1].get_ydata()[0] == pytest.approx(means[2])
    cosine = [(f.vectors * native.vectors).sum(1).mean().item() for f in snapshots.values()]
    assert right.lines[0].get_ydata() == pytest.approx(cosine)


def test_densities_draws_both_curves_and_their_overlap() -> None:
    features = items(0)
    frame = similarity_histograms(features, features, relevance(), bins=20)
    (ax,) = plots.densities({"I-I": frame}).axes
    assert np.array_equal(ax.lines[0].get_ydata(), frame["same"])
    assert np.array_equal(ax.lines[1].get_ydata(), frame["different"])
    overlap = np.minimum(*frame.to_numpy().T).sum() / np.maximum(*frame.to_numpy().T).sum()
    assert ax.get_title() == f"I-I   overlap {overlap:.2f}"


def test_the_curve_of_a_sweep_marks_what_was_chosen() -> None:
    part = {"rank": [1, 2], "difference": [0.1, 0.2], "difference_low": [0.0, 0.1], "difference_high": [0.2, 0.3]}
    frame = pd.concat([pd.DataFrame({**part, "split": name, "chosen": [False, True]}) for name in ("val", "test")])
    frame.attrs["option"] = "rank"
    ax = plots.sweep_curve(frame.reset_index(drop=True))
    assert ax.get_legend_handles_labels()[1] == ["val", "test", "chosen on val"]
    assert ax.get_xlabel() == "rank"


def test_shares_and_occurrences_are_those_of_the_metrics() -> None:
    x = Features(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), list(LABELS), "image", "image")
    y = Features(x.vectors + 3, list(LABELS), "text", "text")
    (bar,) = plots.gap_share({"both": (x, y)}).patches
    assert bar.get_width() == pytest.approx(variance_along_gap(x, y))
    (line,) = plots.occurrences({"T-I": (y, x)}, k=2).lines
    assert sum(line.get_ydata()) == 2 * len(x)


def test_ranked_ticks_hits_and_draws_captions_as_words() -> None:
    ranking = pd.DataFrame({"item": ["i1", "i2"], "rank": [1, 2], "score": [0.9, 0.1], "hit": [True, False]})
    texts = ranking.assign(item=["t1", "t2"], space="text")
    images = Images(list(LABELS), lambda item: Image.new("RGB", (8, 8)))
    fig = plots.ranked("i0", "image", {"I-I": ranking, "I-T": texts}, images, {"t1": "$\\frac{$ <b>", "t2": "a cat"})
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["query", "1 ✓  0.90", "2   0.10"] * 2
    assert [text.get_text() for ax in fig.axes[3:] for text in ax.texts] == ["$\\frac{$ <b>", "a cat"]
    fig.canvas.draw()  # a dollar sign is no formula
    with pytest.raises(XgapError, match="no ranking"):
        plots.ranked("i0", "image", {}, images)


def test_plane_draws_each_point_at_its_place_and_the_lines() -> None:
    images, texts = np.arange(8.0).reshape(4, 2), -np.arange(6.0).reshape(3, 2)
    ax = plots.plane(images, texts, [np.array([[0.0, 1.0], [2.0, 3.0]])])
    np.testing.assert_allclose(ax.collections[0].get_offsets(), images)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), texts)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 1], [2, 3]])
    coloured = plots.plane(images, texts, images_colour=np.arange(4.0), texts_colour=-np.arange(3.0))
    assert [c.get_clim() for c in coloured.collections] == [(-2.0, 3.0)] * 2


def test_inversion_step_marks_the_step_on_the_items_own_loss() -> None:
    loss = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    inversion = Inversion(items(0), torch.zeros(8, 1, 2), loss, {}, {})
    histogram = similarity_histograms(items(0), items(1), relevance())
    fig = plots.inversion_step(inversion, "i2", 3, histogram)
    left = fig.axes[0]
    np.testing.assert_allclose(left.lines[0].get_ydata(), loss[:, 2])
    np.testing.assert_allclose(left.lines[1].get_ydata(), loss.mean(dim=1), rtol=1e-6)
    assert left.lines[2].get_xdata() == [3, 3]
    assert float(left.lines[3].get_ydata()[0]) == pytest.approx(float(loss[3, 2]))
