"""Features of a layer as a view: in the store, in comparisons, and beside the model's own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import xgap_analysis as xg
from tests.conftest import random_model
from tests.views.test_encode import Counting, count, some_images, some_texts, unit
from xgap_analysis import cli
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.models import Model
from xgap_analysis.views.encode import encode


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model()


class CountingLayers(Counting):
    def encode(self, batch, project=True, layer=None):
        self.batches.append(layer)
        return self._tower.encode(batch, project=project, layer=layer)


def test_layers_are_rows_of_their_own_in_the_store(model: Model) -> None:
    counted = count(replace(model, towers={m: CountingLayers(tower) for m, tower in model.towers.items()}))
    last = model.image.blocks
    assert last > 1
    for items, tower in ((some_images(5), counted.image), (some_texts(5), counted.text)):
        own = encode(counted, items, progress=False)
        early = encode(counted, items, layer=1, progress=False)
        again = encode(counted, items, layer=1, progress=False)
        assert torch.equal(encode(counted, items, layer=tower.blocks, progress=False).vectors, own.vectors)
        assert tower.batches == [None, 1]  # what is stored is not computed again, and the last layer is the own one
        assert torch.equal(early.vectors, again.vectors)
        assert not torch.allclose(early.vectors, own.vectors, atol=1e-2)
        assert (early.ids, early.space, early.dim) == (own.ids, own.space, own.dim)
        assert (early.provenance["layer"], "layer" in own.provenance) == (1, False)
        assert early.provenance["digest"] != own.provenance["digest"]
        before = encode(counted, items, layer=1, project=False, progress=False)
        assert before.dim != own.dim


def test_the_features_of_a_layer_are_those_of_its_items_one_by_one(model: Model) -> None:
    texts = some_texts(70)
    found = encode(model, texts, layer=1, progress=False)
    with torch.no_grad():
        alone = [model.text.encode(model.tokenize([caption]), layer=1) for caption in texts]
    assert (found.vectors - unit(torch.cat(alone))).abs().max() < 1e-6


def test_a_layer_stands_in_comparisons_and_on_an_axis() -> None:
    study = xg.Study(
        ["tiny-untrained"],
        ["emoji"],
        ["I-I", "image(layer=2)-image(layer=2)", "I-T"],
        axes={"image.layer": [1, 6]},
        limit=6,
        progress=False,
    )
    table = xg.main_rows(study.run())
    assert table["value"].notna().all()
    value = table.set_index(["comparison", "image.layer"])["value"]
    model, data = xg.load_model("tiny-untrained"), xg.load_dataset("emoji").split("test").limit(6)
    for layer in (1, 6):
        images = xg.encode(model, data.images, layer=layer, progress=False)
        assert value["I-I", layer] == pytest.approx(xg.retrieval(images, images, data)["ap"].mean())


def test_a_correction_of_an_earlier_layer_is_refused() -> None:
    study = xg.Study(
        ["tiny-untrained"], ["emoji"], ["image(layer=2)-image(layer=2)"], ["none", "center"], limit=6, progress=False
    )
    table = xg.main_rows(study.run()).set_index("correction")
    assert table.loc["none", "value"] > 0
    assert "fitted on the model's own features, and image(layer=2)" in table.loc["center", "note"]
    (evaluation,) = study.evaluations()
    with pytest.raises(XgapError, match="compare layers without a correction"):
        evaluation.pair("fuse(image, image(layer=2))-image", "center")


def test_mistakes_are_one_sentence(model: Model) -> None:
    for layer in (0, -1, 99, True, "3"):
        with pytest.raises(XgapError, match="blocks, so a layer is from 1 to"):
            encode(model, ["a cat"], layer=layer)
    features = xg.Features(torch.eye(2), ["a", "b"], "image", "image")
    with pytest.raises(XgapError, match="vectors already, and have no layers"):
        xg.view("image(layer=1)")(model, Vectors(features))


def test_a_layer_is_encoded_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "second.npz"
    command = ["encode", "--model", "tiny-untrained", "--limit", "3", "--layer", "2", "--out", str(out)]
    assert cli.main(command) == 0
    assert "by tiny-untrained, layer 2" in capsys.readouterr().out
    model, data = xg.load_model("tiny-untrained"), xg.load_dataset("emoji").split("test").limit(3)
    expected = encode(model, data.images, layer=2, progress=False)
    found = xg.load_features(out)
    assert (found.ids, torch.equal(found.vectors, expected.vectors)) == (expected.ids, True)
    assert cli.main([*command[:-4], "--layer", "99"]) == 2
    assert "a layer is from 1 to" in capsys.readouterr().err
