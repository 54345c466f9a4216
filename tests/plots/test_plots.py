"""Figures: what is drawn is what the numbers say."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex, to_rgba
from matplotlib.text import Text
from PIL import Image

mpl.use("agg")

from xgap_analysis import plots
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import QueryGallery
from xgap_analysis.datasets import Images, Relevance
from xgap_analysis.metrics import (
    bootstrap_interval,
    linear_cka,
    modality_gap,
    nearest_items,
    paired_test,
    retrieval,
    seed_interval,
    similarity_histograms,
    structure_table,
    variance_along_gap,
)
from xgap_analysis.plots.ranked import SQUARE
from xgap_analysis.plots.style import GREY, HIGHER, LOWER, house_style
from xgap_analysis.views.inversion.invert import Inversion
from xgap_analysis.widgets.heat import TINTS

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
                "value": 0.5,
                "low": 0.4,
                "high": 0.6,
                "p_adjusted": 0.01 if middle > 0 else 0.2,
                "transductive": False,
                "note": "",
                "difference": middle,
                "difference_low": middle - 0.05,
                "difference_high": middle + 0.05,
                "verdict": verdict,
                "reason": "",
                "n_groups": 20,
            }
        )
    return pd.DataFrame(rows)


def test_differences_draws_each_comparison_at_its_value_with_its_interval_and_verdict() -> None:
    ax = plots.differences(table())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["OTI-I − I-I", "OTI-OTI − I-I"]
    assert ax.yaxis_inverted()  # the first on top
    assert np.allclose(intervals(ax), [[0.05, 0.15], [-0.25, -0.15]])
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks(ax)] == [(0.1, 0), (-0.2, 1)]
    assert [t.get_text() for t in ax.texts] == ["supported (p 0.010, 20 groups)", "lower (p 0.200, 20 groups)"]


def test_a_difference_has_the_colour_of_its_sign_in_every_figure() -> None:
    rows = table().assign(verdict=["inconclusive", "contradicted", None])
    lines = plots.differences(rows).lines
    assert [line.get_color() for line in lines[:4]] == [HIGHER, HIGHER, LOWER, LOWER]
    assert [line.get_mfc() for line in lines[:4:2]] == ["white", LOWER]  # filled where it is conclusive
    image = plots.grid(rows).collections[0]
    for difference, colour in ((-0.2, LOWER), (0.2, HIGHER)):
        assert image.to_rgba(np.array([[difference]]))[0, 0] == pytest.approx(to_rgba(colour), abs=0.01)
    gains = plots.per_query(pd.Series([0.0, 0.0], ["a", "b"]), pd.Series([0.5, -0.5], ["a", "b"])).patches
    assert {patch.get_facecolor() for patch in gains} >= {to_rgba(LOWER), to_rgba(HIGHER)}
    for tint, colour in ((TINTS[0], LOWER), (TINTS[-1], HIGHER)):  # lighter shades of the same hue
        assert np.argmax(to_rgba(tint)[:3]) == np.argmax(to_rgba(colour)[:3])


def marks(ax: Any) -> list[Any]:
    """The lines of marks: one for each look."""
    return [line for line in ax.lines if line.get_marker() != "None"]


def intervals(ax: Any) -> list[list[float]]:
    """The ends of each interval that lies along x."""
    drawn = [line for line in ax.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    return [list(line.get_xdata()) for line in drawn if np.isfinite(line.get_xdata()).all()]


def bins(outline: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a filled histogram, the places and the heights of its n bins: its upper outline, which goes back."""
    return tuple(outline.get_paths()[0].vertices[n + 2 : 2 * n + 2][::-1].T)


def rows_of(comparison: str) -> pd.DataFrame:
    """The rows of one comparison; not by `query`, whose frames crash the first Python 3.13."""
    rows = table()
    return rows[rows["comparison"] == comparison]


NAMES = ["Ba$$in", "a$b", "$x^2$", "_new", "", "_$", r"\$\frac{", "<b>&", "50 %"]


def test_names_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    scores = pd.DataFrame({"correct_at_1": np.linspace(0, 1, len(NAMES))}, index=[f"i{k}" for k in range(len(NAMES))])
    labels = dict(zip(scores.index, NAMES, strict=True))
    native, snapshots = items(0), {1: items(1, "text")}
    named = pd.concat([rows_of("OTI-I").assign(model=name, dataset=name) for name in NAMES])
    figures = {
        "by_class": plots.by_class(dict.fromkeys(NAMES, scores), labels),
        "values": plots.values(named, by="dataset"),
        "differences": plots.differences(named),
        "grid": plots.grid(named, by="model"),
        "gap_share": plots.gap_share(dict.fromkeys(NAMES, (items(0), items(1, "text")))),
        "occurrences": plots.occurrences(dict.fromkeys(NAMES, (native, native)), k=2),
        "drift": plots.drift(dict.fromkeys(NAMES, snapshots), native, relevance(), native).axes[0],
    }
    for title, ax in figures.items():
        ax.figure.savefig(tmp_path / f"{title}.png")
        texts = [text.get_text() for text in ax.figure.findobj(Text)]
        drawn = [Text()._preprocess_math(text) for text in texts if "mathdefault" not in text]  # but ticks: 10 to the n
        assert not any(formula for _, formula in drawn), title
        for name in NAMES[:3]:
            assert any(name in words for words, _ in drawn), (title, name)
    for title in ("by_class", "values", "drift", "occurrences"):
        legend = [text.get_text() for text in figures[title].get_legend().get_texts()]
        assert len([name for name in legend if name != "native query"]) == len(NAMES), title


def test_a_table_without_differences_is_refused() -> None:
    with pytest.raises(XgapError, match="no comparison with a baseline"):
        plots.differences(rows_of("I-I"))


def test_neighbours_are_the_most_similar_items_with_the_hits_marked() -> None:
    features = items(0)
    images = Images(list(LABELS), lambda _: Image.new("RGB", (4, 4)))
    figure = plots.neighbours("i3", {"I-I": (features, features)}, images, relevance(), k=4)
    cosines = (features.vectors @ features.vectors[3]).tolist()
    expected = sorted((k for k in range(8) if k != 3), key=lambda k: -cosines[k])[:4]
    titles = [text.get_text() for text in figure.axes[0].texts][2:]
    assert ["✓" in title for title in titles] == [k % 2 == 1 for k in expected]
    assert [float(title.split()[-1]) for title in titles] == [pytest.approx(cosines[k], abs=0.006) for k in expected]


def test_neighbours_rank_as_retrieval_does_junk_ties_and_normalisers_included() -> None:
    features = items(0)
    images = Images(list(LABELS), lambda _: Image.new("RGB", (4, 4)))
    junk = Relevance.from_qrels({"i3": {"i1": 1.0}}, {"i3": ["i5"]})
    sides = QueryGallery(features, features, lambda scores: -scores)  # the furthest first
    figure = plots.neighbours("i3", {"I-I": sides}, images, junk, k=5)
    expected = nearest_items(features, features, "i3", junk, 5, sides.normalise)
    assert "i5" not in set(expected["item"])
    titles = [text.get_text() for text in figure.axes[0].texts][2:]
    assert [float(title.split()[-1]) for title in titles] == pytest.approx(expected["score"].tolist(), abs=0.006)
    assert ["✓" in title for title in titles] == expected["hit"].tolist()


def test_drift_draws_the_mean_of_each_snapshot_and_of_the_native_query() -> None:
    native, snapshots = items(0), {0: items(1, "text"), 5: items(2, "text")}
    left, right = plots.drift(snapshots, native, relevance(), native).axes
    means = [retrieval(f, native, relevance())["ap"].mean() for f in (*snapshots.values(), native)]
    assert left.lines[0].get_ydata() == pytest.approx(means[:2])
    assert left.lines[1].get_ydata()[0] == pytest.approx(means[2])
    cosine = [(f.vectors * native.vectors).sum(1).mean().item() for f in snapshots.values()]
    assert right.lines[0].get_ydata() == pytest.approx(cosine)


def test_drift_draws_a_line_for_each_of_several_runs() -> None:
    native = items(0)
    runs = {"R = 1": {0: items(1, "text"), 9: items(2, "text")}, "R = 4": {3: items(3, "text")}}
    left, _ = plots.drift(runs, native, relevance(), native, log=True).axes
    assert left.get_legend_handles_labels()[1] == ["R = 1", "R = 4", "native query"]
    assert [list(line.get_xdata()) for line in left.lines[:2]] == [[0, 9], [3]]
    mean = retrieval(runs["R = 4"][3], native, relevance())["ap"].mean()
    assert left.lines[1].get_ydata() == pytest.approx([mean])
    assert left.get_xscale() == "symlog"


def test_a_paired_drift_draws_differences_from_the_native_query() -> None:
    native, snapshots = items(0), {1: items(1, "text")}
    left, _ = plots.drift(snapshots, native, relevance(), native, groups=list(LABELS.values()), paired=True).axes
    before, after = (retrieval(f, native, relevance())["ap"] for f in (native, snapshots[1]))
    test = paired_test(before, after, groups=list(LABELS.values()))
    assert left.lines[0].get_ydata() == pytest.approx([test.difference])
    drawn = left.collections[0].get_paths()[0].vertices[:, 1]
    assert (drawn.min(), drawn.max()) == pytest.approx((test.low, test.high))
    assert left.lines[1].get_ydata()[0] == 0


@pytest.mark.parametrize("nothing", [{}, {"R = 1": {}}])
def test_a_drift_without_snapshots_is_refused(nothing: dict[Any, Any]) -> None:
    with pytest.raises(XgapError, match="no snapshots"):
        plots.drift(nothing, items(0), relevance(), items(0))


def test_densities_draws_both_curves_and_their_overlap() -> None:
    features = items(0)
    frame = similarity_histograms(features, features, relevance(), bins=20)
    (ax,) = plots.densities({"I-I": frame}).axes
    same, different = ax.collections
    for outline, name in ((same, "same"), (different, "different")):
        assert bins(outline, 20)[0] == pytest.approx(frame.index.to_numpy())
        assert bins(outline, 20)[1] == pytest.approx(frame[name].to_numpy())
    assert same.get_linestyle() != different.get_linestyle()
    overlap = np.minimum(*frame.to_numpy().T).sum() / np.maximum(*frame.to_numpy().T).sum()
    assert ax.get_title() == f"I-I   overlap {overlap:.2f}"


def test_the_curve_of_an_option_marks_what_was_chosen() -> None:
    part = {"pca.rank": [1, 2], "difference": [0.1, 0.2], "difference_low": [0.0, 0.1], "difference_high": [0.2, 0.3]}
    frame = pd.concat([pd.DataFrame({**part, "split": name, "chosen": [False, True]}) for name in ("val", "test")])
    frame.attrs["axis"] = "pca.rank"
    ax = plots.sweep_curve(frame.reset_index(drop=True))
    assert ax.get_legend_handles_labels()[1] == ["val", "test", "chosen on val"]
    assert ax.get_xlabel() == "pca.rank"
    assert [line.get_xdata()[0] for line in ax.lines if line.get_label() == "chosen on val"] == [2]


def test_shares_and_occurrences_are_those_of_the_metrics() -> None:
    x = Features(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), list(LABELS), "image", "image")
    y = Features(x.vectors + 3, list(LABELS), "text", "text")
    (bar,) = plots.gap_share({"both": (x, y)}).patches
    assert bar.get_width() == pytest.approx(variance_along_gap(x, y))
    (line,) = plots.occurrences({"T-I": (y, x)}, k=2).lines
    assert sum(line.get_ydata()) == 2 * len(x)


def models_table() -> pd.DataFrame:
    other = table().assign(model="n", value=0.3, low=0.2, high=0.4, difference=[0.02, np.nan, np.nan])
    return pd.concat([table(), other.iloc[[0, 2]]], ignore_index=True)


def test_values_draws_each_model_at_its_value_with_its_interval() -> None:
    ax = plots.values(models_table())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["OTI-I", "OTI-OTI", "I-I"]
    assert ax.get_legend_handles_labels()[1] == ["m", "n"]
    first, second = marks(ax)
    np.testing.assert_equal(first.get_xdata(), [0.5] * 3)
    np.testing.assert_equal(second.get_xdata(), [0.3, np.nan, 0.3])  # the model without OTI-OTI has no mark there
    assert [round(place) for place in second.get_ydata()] == [0, 1, 2]
    assert all(first.get_ydata() < second.get_ydata())
    assert intervals(ax) == [[0.4, 0.6]] * 3 + [[0.2, 0.4]] * 2


def test_values_refuses_two_values_in_one_place() -> None:
    with pytest.raises(XgapError, match="several values of one comparison and model"):
        plots.values(pd.concat([table(), table()]))
    with pytest.raises(XgapError, match="no value"):
        plots.values(table().assign(value=np.nan))


def test_a_grid_by_model_has_a_row_for_each_and_gaps_where_nothing_was_run() -> None:
    ax = plots.grid(models_table(), by="model")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["m", "n"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["OTI-I", "OTI-OTI", "I-I"]
    words = {tuple(t.get_position()): (t.get_text(), t.get_fontweight()) for t in ax.texts}
    assert words == {
        (0.5, 0.5): ("+0.100", "bold"),
        (1.5, 0.5): ("-0.200", "normal"),
        (2.5, 0.5): ("base", "normal"),
        (0.5, 1.5): ("+0.020", "bold"),
        (2.5, 1.5): ("base", "normal"),
    }
    with pytest.raises(XgapError, match="choose its rows first"):
        plots.grid(models_table())


def test_a_grid_by_several_columns_has_a_line_for_each_combination() -> None:
    both = pd.concat([models_table().assign(dataset=name) for name in ("one", "other")])
    ax = plots.grid(both, by=["model", "dataset"])
    names = list(dict.fromkeys(zip(both["model"], both["dataset"], strict=True)))
    assert [t.get_text() for t in ax.get_yticklabels()] == [" · ".join(name) for name in names]
    assert len(ax.texts) == len(both)
    with pytest.raises(XgapError, match="unknown column of the table 'colour'"):
        plots.grid(both, by=["model", "colour"])


@pytest.mark.parametrize("draw", [plots.values, plots.grid])
def test_an_unknown_column_is_reported_with_the_nearest(draw: Callable[..., Any]) -> None:
    with pytest.raises(XgapError, match="unknown column of the table 'models'; nearest names: model"):
        draw(table(), by="models")


def test_per_query_counts_gains_and_losses() -> None:
    before = pd.Series({"a": 0.1, "b": 0.5, "c": 0.5, "d": 0.2, "e": np.nan})
    after = pd.Series({"d": 0.1, "a": 0.4, "b": 0.5 + 1e-12, "c": 0.6, "e": 0.5})
    ax = plots.per_query(before, after)
    assert ax.get_title() == "50% gain, 25% same, 25% lose"
    assert ax.get_legend_handles_labels()[1] == ["mean +0.0750"]
    assert ax.lines[0].get_ydata()[0] == pytest.approx(0.075)
    gain, same, lose = (patch.get_data().values for patch in ax.patches)
    assert gain + same + lose == pytest.approx([0.3, 0.1, 0, -0.1], abs=1e-9)
    assert (gain >= 0).all()
    assert (lose <= 0).all()
    with pytest.raises(XgapError, match="no scored query"):
        plots.per_query(before, pd.Series({"z": 1.0}))


def test_by_class_draws_the_mean_of_each_class() -> None:
    frames = {
        name: pd.DataFrame({"correct_at_1": values}, index=list(LABELS))
        for name, values in (("zero-shot", [0, 1, 0, 1, 0, 1, 1, 1.0]), ("OTI-T", [1, 0, 1, 0, 1, 0, 1, 0.0]))
    }
    ax = plots.by_class(frames, LABELS, groups=LABELS)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b (4)", "a (4)"]
    assert [list(line.get_xdata()) for line in marks(ax)] == [[1.0, 0.25], [0.0, 1.0]]
    assert ax.get_legend_handles_labels()[1] == ["zero-shot", "OTI-T"]
    wide = plots.by_class(frames, LABELS)
    spread = bootstrap_interval(frames["zero-shot"]["correct_at_1"].iloc[::2])
    assert intervals(wide)[1] == pytest.approx([spread.low, spread.high])


@pytest.mark.parametrize("pairs", ["all", "same", "different"])
def test_cosines_draws_the_density_of_the_pairs_wanted(pairs: str) -> None:
    features = items(0)
    frame = similarity_histograms(features, features, relevance(), bins=40)
    ax = plots.cosines({"I-I": frame}, pairs)
    every = features.vectors.double() @ features.vectors.double().T
    same = torch.tensor([[a == b for b in LABELS.values()] for a in LABELS.values()])
    asked = ~torch.eye(8, dtype=torch.bool) & {"all": torch.ones(8, 8).bool(), "same": same, "different": ~same}[pairs]
    counts, _ = np.histogram(every[asked].numpy(), bins=40, range=(-1, 1), density=True)
    assert bins(ax.collections[0], 40)[1] == pytest.approx(counts)
    (label,) = ax.get_legend_handles_labels()[1]
    assert float(label.split()[-1]) == pytest.approx(every[asked].mean().item(), abs=0.03)  # half a bin and rounding


def test_cosines_of_other_pairs_are_refused() -> None:
    with pytest.raises(XgapError, match="unknown kind of pairs 'sames'; nearest names: same"):
        plots.cosines({}, "sames")


def test_a_gap_map_keeps_the_distances_of_a_plane_and_joins_pairs() -> None:
    angles = torch.linspace(0, 2, 6).double()
    ring = torch.stack([angles.cos(), angles.sin(), 0 * angles], dim=1)
    names = [f"i{k}" for k in range(6)]
    x, y = Features(ring, names, "image", "image"), Features(-ring, names, "text", "text")
    ax = plots.gap_map(x, y, pairs=3)
    lines, images, texts = ax.collections
    drawn = np.concatenate([images.get_offsets(), texts.get_offsets()])
    both = torch.cat([x.vectors, y.vectors]).double()
    apart = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1)
    assert apart == pytest.approx(torch.cdist(both, both).numpy(), abs=1e-5)
    ends = np.array(list(lines.get_segments()))
    assert ends == pytest.approx(np.stack([drawn[:6], drawn[6:]], axis=1)[[0, 2, 5]])
    assert "of the variance" in ax.get_xlabel()
    assert ax.get_legend_handles_labels()[1] == ["image", "text"]
    lines, images, _ = plots.gap_map(x, y.select(names[:2])).collections  # what has no partner is left out
    assert (len(lines.get_segments()), len(images.get_offsets())) == (2, 2)
    with pytest.raises(XgapError, match="pairs are by id"):
        plots.gap_map(x, Features(-ring, [f"t{k}" for k in range(6)], "text", "text"))


def shifted_table() -> pd.DataFrame:
    parts = [table().assign(correction=f"gap-shift(lambda_={x})", value=x, low=x, high=x) for x in (0.5, 0.0)]
    return pd.concat([table(), *parts])


def test_a_shift_curve_draws_scores_and_the_gap_that_is_left() -> None:
    x, y = items(0), items(1, "text")
    left, right = plots.shift_curve(shifted_table(), {0.0: (x, y), 0.5: (x, x)}).axes
    assert left.get_legend_handles_labels()[1] == ["OTI-I", "OTI-OTI", "I-I"]
    assert [list(line.get_xdata()) for line in left.lines[:3]] == [[0.0, 0.5]] * 3
    assert [list(line.get_ydata()) for line in left.lines[:3]] == [[0.0, 0.5]] * 3
    assert right.lines[0].get_ydata() == pytest.approx([modality_gap(x, y), 0.0])
    with pytest.raises(XgapError, match="no correction like"):
        plots.shift_curve(table(), {})


def test_agreement_writes_each_pair_twice_and_one_on_the_diagonal() -> None:
    frame = structure_table({"m": items(0), "n": items(1), "o": items(2)}, k=3)
    ax = plots.agreement(frame)
    words = {tuple(int(x) for x in t.get_position()): t.get_text() for t in ax.texts}
    assert words[0, 1] == words[1, 0] == f"{linear_cka(items(0), items(1)):.2f}"
    assert [words[k, k] for k in range(3)] == ["1.00"] * 3
    assert ax.get_title() == "linear cka (n = 8)"
    with pytest.raises(XgapError, match="unknown measure of agreement 'cka'"):
        plots.agreement(frame, "cka")


def figures() -> dict[str, Callable[[Any], Any]]:
    """Each figure that takes axes."""
    x, y = items(0), items(1, "text")
    frame = similarity_histograms(x, x, relevance(), bins=20)
    score = pd.DataFrame({"correct_at_1": [0.0, 1] * 4}, index=list(LABELS))
    return {
        "differences": lambda ax: plots.differences(table(), ax=ax),
        "values": lambda ax: plots.values(table(), ax=ax),
        "grid": lambda ax: plots.grid(table(), by="model", ax=ax),
        "per_query": lambda ax: plots.per_query(score["correct_at_1"], score["correct_at_1"] / 2, ax=ax),
        "by_class": lambda ax: plots.by_class({"a": score}, LABELS, ax=ax),
        "cosines": lambda ax: plots.cosines({"I-I": frame}, ax=ax),
        "gap_map": lambda ax: plots.gap_map(x, y, ax=ax),
        "gap_share": lambda ax: plots.gap_share({"both": (x, y)}, ax=ax),
        "occurrences": lambda ax: plots.occurrences({"T-I": (y, x)}, k=2, ax=ax),
        "agreement": lambda ax: plots.agreement(structure_table({"m": x, "n": x}, k=3), ax=ax),
    }


@pytest.mark.parametrize("name", figures())
def test_a_figure_is_drawn_on_the_axes_that_are_given_and_exported_as_vectors(name: str) -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert figures()[name](right) is right
    assert not left.has_data()
    assert right.has_data() or right.texts
    assert right.get_xlabel() or right.get_xticklabels()
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        written = io.BytesIO()
        figure.savefig(written, format=kind)
        assert written.getvalue().startswith(start)


def whole_figures() -> dict[str, Callable[[], Any]]:
    """Each function that makes a figure of its own."""
    x, y = items(0), items(1, "text")
    images = Images(list(LABELS), lambda _: Image.new("RGB", (4, 4)))
    frame = similarity_histograms(x, x, relevance(), bins=20)
    return {
        "drift": lambda: plots.drift({0: y}, x, relevance(), x),
        "densities": lambda: plots.densities({"I-I": frame}),
        "shift_curve": lambda: plots.shift_curve(shifted_table(), {0.0: (x, y)}),
        "neighbours": lambda: plots.neighbours("i3", {"I-I": (x, x)}, images, relevance(), k=3),
    }


@pytest.mark.parametrize("name", whole_figures())
def test_a_whole_figure_is_exported_as_vectors(name: str) -> None:
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        written = io.BytesIO()
        whole_figures()[name]().savefig(written, format=kind)
        assert written.getvalue().startswith(start)


def test_no_scores_are_refused() -> None:
    with pytest.raises(XgapError, match="no scores"):
        plots.by_class({}, LABELS)


def test_ranked_ticks_hits_and_draws_captions_as_words() -> None:
    ranking = pd.DataFrame({"item": ["i1", "i2"], "rank": [1, 2], "score": [0.9, 0.1], "hit": [True, False]})
    texts = ranking.assign(item=["t1", "t2"], space="text")
    images = Images(list(LABELS), lambda item: Image.new("RGB", (8, 8)))
    fig = plots.ranked("i0", "image", {"I-I": ranking, "I-T": texts}, images, {"t1": "$\\frac{$ <b>", "t2": "a cat"})
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.texts] == [
        *("I-I", "query", "1 ✓  0.90", "2   0.10"),
        *("I-T", "query", "$\\frac{$ <b>", "1 ✓  0.90", "a cat", "2   0.10"),
    ]
    assert len(ax.images) == 4  # the query twice
    frames = [to_hex(patch.get_edgecolor()) for patch in ax.patches]
    assert frames == ["#009e73", "#cccccc"] * 2
    for image in ax.images:  # as wide as high, as the image is
        left, right, bottom, top = image.get_extent()
        assert (right - left, bottom - top) == pytest.approx((SQUARE, SQUARE))
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


def ablated() -> pd.DataFrame:
    rows = [
        {"ablation": name, "setting": setting, "seed": seed, "step": step, "quantity": quantity, "value": value}
        for name, settings in (("intra", ("0", "2")), ("temperature", ("0.01",)))
        for place, setting in enumerate(settings)
        for seed in range(3)
        for step in (0, 60)
        for quantity, value in (("gap", place + 0.1 * seed + step), ("OTI-I - I-I", 0.01 * seed - 0.02 * place))
    ]
    return pd.DataFrame(rows)


def test_over_settings_draws_every_seed_and_the_interval_of_the_mean() -> None:
    ablations = ablated()
    intra = ablations[ablations["ablation"] == "intra"]
    fig = plots.over_settings(intra, ["gap", "OTI-I - I-I"])
    left, right = fig.axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["0", "2"]
    rings = left.collections[0].get_offsets()
    assert rings[:, 1].tolist() == pytest.approx([60.0, 60.1, 60.2])
    assert set(rings[:, 0]) == {0.0}  # not spread, so that seeds of one value are seen to be that
    dots, first, _ = left.lines
    assert (dots.get_ydata()[0], *first.get_ydata()) == pytest.approx(seed_interval([60.0, 60.1, 60.2]))
    assert len(right.lines) == len(left.lines) + 1  # zero
    assert plots.over_settings(intra, ["gap"], step=0).axes[0].lines[0].get_ydata()[0] == pytest.approx(0.1)
    with pytest.raises(XgapError, match="unknown quantity"):
        plots.over_settings(intra, ["gaps"])
    with pytest.raises(XgapError, match="it has: 0, 60"):
        plots.over_settings(intra, ["gap"], step=7)
    with pytest.raises(XgapError, match="one ablation"):
        plots.over_settings(ablated(), ["gap"])


def test_trade_offs_places_each_setting_with_its_intervals() -> None:
    rows = [
        {"setting": setting, "quantity": quantity, "change": change, "low": change - 1, "high": change + 2}
        for setting, changes in {"$a$": {"I-T": -3.0, "gap": 0.5}, "b": {"I-T": 1.0, "gap": -0.5}}.items()
        for quantity, change in changes.items()
    ]
    table = pd.DataFrame(rows).assign(queries_low=np.nan, queries_high=np.nan)
    (ax,) = plots.trade_offs(table, "I-T", ["gap"]).axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines[2:]] == [(1.0, -0.5), (-3.0, 0.5)]
    assert [text.get_text() for text in ax.texts] == ["b", r"\$a\$"]  # in the order of the gap
    ends = [tuple(map(tuple, path.vertices)) for bars in ax.collections for path in bars.get_paths()]
    assert ((0.0, -0.5), (3.0, -0.5)) in ends
    assert ((-3.0, -0.5), (-3.0, 2.5)) in ends
    with pytest.raises(XgapError, match="unknown quantity"):
        plots.trade_offs(table, "I-I", ["gap"])


def test_the_atlas_marks_verdicts_and_what_is_not_acted_on() -> None:
    row = {"kind": "scorer", "system": "$A$", "setting": "a", "quantity": "I-I", "value": 0.5, "reason": ""}
    row |= {"difference": 0.2, "low": 0.1, "high": 0.3, "verdict": "higher"}
    unsure = {"system": "B", "setting": "b", "low": -0.3, "difference": -0.1, "verdict": "inconclusive"}
    none = {"kind": "view", "system": "C", "difference": np.nan, "low": np.nan, "high": np.nan, "verdict": None}
    not_defined = {**none, "system": "D", "value": np.nan, "reason": "not defined for it"}
    table = pd.DataFrame([row, {**row, **unsure}, {**row, **none, "reason": "not acted on"}, {**row, **not_defined}])
    (ax,) = plots.atlas(pd.concat([table, table.head(1).assign(quantity="T-T", verdict=None)])).axes[:1]
    drawn = [(line.get_marker(), line.get_color(), line.get_mfc(), list(line.get_xdata())) for line in ax.lines]
    assert drawn[:5] == [
        (".", GREY, GREY, [0]),
        ("o", HIGHER, HIGHER, [0.2]),
        ("None", HIGHER, HIGHER, [0.1, 0.3]),
        ("o", GREY, "white", [-0.1]),
        ("None", GREY, GREY, [-0.3, 0.3]),
    ]
    assert len(ax.lines) == 6  # and the line at zero: of D, nothing is drawn
    assert [label.get_text() for label in ax.get_yticklabels()] == [r"\$A\$", "B", "C", "D"]
    assert [text.get_text() for text in ax.texts] == ["scorer", "view"]
    heights = ax.get_yticks()
    assert heights[1] - heights[2] > heights[0] - heights[1]  # room for the heading of another kind
    with pytest.raises(XgapError, match="no change to draw"):
        plots.atlas(table.tail(2))


def test_runs_places_each_run_and_names_its_setting() -> None:
    ax = plots.runs(ablated(), "gap", "OTI-I - I-I")
    intra, temperature = (of.get_offsets() for of in ax.collections)
    assert sorted(intra[:, 0]) == pytest.approx([60, 60.1, 60.2, 61, 61.1, 61.2])
    assert temperature[:, 1].tolist() == pytest.approx([0, 0.01, 0.02])
    assert [text.get_text() for text in ax.texts] == ["0", "2", "0.01"]
    assert ax.get_legend_handles_labels()[1] == ["intra", "temperature"]
    with pytest.raises(XgapError, match="unknown quantity"):
        plots.runs(ablated(), "gap", "OTI-I")


def test_the_style_is_that_of_our_figures_alone() -> None:
    before = dict(mpl.rcParams)
    ax = plots.values(table())
    assert dict(mpl.rcParams) == before
    assert not ax.spines["top"].get_visible()
    assert to_hex(ax.spines["left"].get_edgecolor()) == "#444444"
    _, own = plt.subplots()  # a user's figure afterwards
    assert to_hex(own.spines["left"].get_edgecolor()) == "#000000"
    with house_style():
        pass
    assert dict(mpl.rcParams) == before


def test_several_values_in_one_place_are_refused() -> None:
    with pytest.raises(XgapError, match="several values in one place"):
        plots.shift_curve(pd.concat([shifted_table(), shifted_table()]), {0.0: (items(0), items(1, "text"))})
