"""Modality explorer, in the kernel."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.widgets import ModalityExplorer


@pytest.fixture
def spoken(xgap_home: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """Eight concepts as images, texts and sound, encoded by the oracle."""
    monkeypatch.setenv("XGAP_RESULTS", str(xgap_home / "results"))
    data = xg.load_dataset("emoji-spoken").split("test").limit(8)
    (made,) = xg.Study(["oracle"], [data], ["I-T"], progress=False).evaluations()
    return made


@pytest.fixture
def own() -> Evaluation:
    """Three arrays of ten rows and five labels."""
    random = np.random.default_rng(0)
    shared = np.repeat(random.normal(size=(5, 6)), 2, axis=0)
    sets = {name: shared + random.normal(size=(10, 6)) * 0.3 + k for k, name in enumerate(("image", "text", "audio"))}
    (made,) = xg.study_of_features(sets, [f"<b>label {k // 2}</b>" for k in range(10)]).evaluations()
    return made


def test_a_concept_has_its_points_lines_and_neighbours(spoken: Evaluation) -> None:
    explorer = ModalityExplorer(spoken)
    assert explorer.error == ""
    concepts = explorer._made()
    label = explorer.label
    items = [i for of in spoken.data.items.values() for i in of.ids if spoken.labels[i] == label]
    assert [concepts.ids[index] for index in concepts.indices(str(label))] == items
    assert explorer._map._plot.selection.tolist() == concepts.indices(str(label))  # type: ignore[union-attr]
    assert len(explorer._map._scatter.annotations()["annotations"]) == 3  # type: ignore[union-attr]
    titles = ["image → text", "image → audio", "text → image", "text → audio", "audio → image", "audio → text"]
    assert list(explorer.rankings) == titles
    for title, frame in explorer.rankings.items():  # the oracle ranks a concept's own items first
        assert frame["hit"].iloc[0], title
        assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    words = explorer._about.value
    assert "data:image/png;base64," in words
    assert "<b>audio</b>" in words
    assert "more" in words


def test_the_gaps_beside_the_map_are_those_of_the_table(spoken: Evaluation) -> None:
    explorer = ModalityExplorer(spoken)
    table = explorer.table().set_index(["x", "y", "measure"])
    row = table.loc[("text", "audio", "modality_gap")]
    assert f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in explorer._gaps.value
    assert "image-audio" in explorer._gaps.value


def test_a_click_on_a_point_a_card_or_the_list_chooses_its_concept(spoken: Evaluation) -> None:
    explorer = ModalityExplorer(spoken)
    concepts = explorer._made()
    last = len(concepts.ids) - 1  # a recording
    explorer._map._plot.selection = np.array([last], dtype="uint32")  # type: ignore[union-attr]
    assert explorer.label == spoken.labels[concepts.ids[last]]
    other = next(c for c in explorer._rows.lines[0][1].cards if spoken.labels[c.item] != explorer.label)
    explorer._clicked_card(other)
    assert explorer.label == spoken.labels[other.item]
    assert explorer._finder.entries.value == explorer.label
    name = explorer._names[concepts.labels[2]]
    explorer._finder.field.value = name
    explorer._finder.entries.value = dict(explorer._finder.entries.options)[name]
    assert explorer.label == concepts.labels[2]
    assert explorer.error == ""
    explorer._map._plot.hovering = 0  # type: ignore[union-attr]
    assert spoken.labels[concepts.ids[0]]
    assert "<b>image</b>" in explorer._about.value


def test_it_shows_three_arrays_of_ones_own(own: Evaluation) -> None:
    explorer = ModalityExplorer(own, label="<b>label 2</b>")
    assert explorer.error == ""
    assert "<b>label 2</b>" not in explorer._about.value.replace("&lt;", "")
    assert "&lt;b&gt;label 2" in explorer._about.value
    assert {"image-text", "image-audio", "text-audio"} <= set(
        explorer._gaps.value.replace("<td>", " ").replace("</td>", " ").split()
    )
    card = explorer._rows.lines[2][1]._buttons[0]
    assert card.description.splitlines()[-1] in explorer.rankings["text → image"]["item"].tolist()  # no image: its id
    explorer.choose("<b>label 0</b>")
    with pytest.raises(xg.XgapError, match="unknown label of two modalities 'nothing'"):
        explorer.choose("nothing")


def test_its_code_gives_the_same_gaps(own: Evaluation, run_code: Any) -> None:
    explorer = ModalityExplorer(own)
    pd.testing.assert_frame_equal(run_code(explorer.code(), evaluation=own), explorer.table())


def test_save_writes_figure_and_table(spoken: Evaluation, xgap_home: Path) -> None:
    paths = ModalityExplorer(spoken).save()
    assert all(path.stat().st_size for path in paths)
    assert paths[0].parent == xgap_home / "results"
    assert len(pd.read_parquet(paths[2])) == 3 * 11


def test_mistakes_are_one_sentence(evaluation: Evaluation, own: Evaluation) -> None:
    with pytest.raises(xg.XgapError, match="unknown map 'tsne'"):
        ModalityExplorer(evaluation, method="tsne")
    with pytest.raises(xg.XgapError, match=r"\(evaluation,\) = study.evaluations\(\)"):
        ModalityExplorer(evaluation.study)  # type: ignore[arg-type]
    assert "unknown label of two modalities" in ModalityExplorer(own, label="nothing").error
    sets = [xg.Features(np.eye(3), [f"{m}{k}" for k in range(3)], m, m) for m in ("image", "text")]
    (apart,) = xg.study_of_features(sets, {i: i for f in sets for i in f.ids}).evaluations()
    assert "is of items of two modalities" in ModalityExplorer(apart).error


def test_two_modalities_do_too(evaluation: Evaluation) -> None:
    explorer = ModalityExplorer(evaluation)
    assert explorer.error == ""
    assert list(explorer.rankings) == ["image → text", "text → image"]
