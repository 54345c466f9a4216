"""Templates: the mean of unit features, in zero-shot classification."""

import numpy as np
import pytest
import torch
from PIL import Image

import xgap_analysis as xg
from tests.conftest import random_model
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import Images, Texts
from xgap_analysis.models import Model

TEMPLATES = ["a photo of {}.", "{} in a drawing", "the {}"]
NAMES = Texts(["c", "d"], ["cat", "a big dog"])


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model()


def mean_of(model: Model, name: str, templates: list[str]) -> np.ndarray:
    with torch.no_grad():
        rows = [model.text.encode(model.tokenize([one.replace("{}", name)]))[0].double().numpy() for one in templates]
    mean = np.mean([row / np.linalg.norm(row) for row in rows], axis=0)
    return mean / np.linalg.norm(mean)


def test_features_are_the_mean_over_templates(model: Model) -> None:
    found = xg.view("ensemble", templates=TEMPLATES)(model, NAMES)
    assert (found.ids, found.space, found.origin) == (("c", "d"), "text", "text")
    for row, name in zip(found.vectors.numpy(), NAMES, strict=True):
        np.testing.assert_allclose(row, mean_of(model, name, TEMPLATES), atol=1e-6)
    one = xg.view("ensemble(templates=['a photo of {}.'])")(model, NAMES)
    alone = xg.encode(model, ["a photo of cat.", "a photo of a big dog."])
    torch.testing.assert_close(one.vectors, alone.vectors)


@pytest.mark.parametrize(("name", "count"), [("imagenet7", 7), ("imagenet80", 80)])
@pytest.mark.filterwarnings("ignore:.*captions are longer")
def test_clips_templates_are_those_of_open_clip(model: Model, name: str, count: int) -> None:
    from open_clip import zero_shot_metadata

    theirs = {"imagenet80": zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES}
    theirs["imagenet7"] = zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES
    filled = [template("cat") for template in theirs[name]]
    assert len(filled) == count
    found = xg.view("ensemble", templates=name)(model, NAMES)
    np.testing.assert_allclose(found.vectors[0].numpy(), mean_of(model, "", filled), atol=1e-6)


def test_a_study_gives_names_without_the_prompt_of_its_dataset(model: Model) -> None:
    view = xg.view("ensemble", templates=TEMPLATES)
    prompted = Texts(NAMES.ids, [f"a photo of {name}" for name in NAMES])
    assert torch.equal(view(model, prompted, prompt="a photo of {}").vectors, view(model, NAMES).vectors)
    other = Texts(["x"], ["no prompt"])
    assert torch.equal(view(model, other, prompt="a photo of {}").vectors, view(model, other).vectors)
    ids = [f"i{i}" for i in range(6)]
    images = Images(ids, lambda i: Image.new("RGB", (32, 32), (40 * int(i[1]), 90, 10)), "squares")
    labels = {i: "c" if int(i[1]) < 3 else "d" for i in ids}
    names = {"class": dict(zip(NAMES.ids, NAMES.captions, strict=True))}
    data = xg.Dataset("two", "test", images, labels={"class": labels}, class_names=names)
    comparison = xg.Comparison("ensembled", "image", view, "zero-shot", baseline="zero-shot")
    (evaluation,) = xg.Study([model], [data], ["zero-shot", comparison], progress=False).evaluations()
    gallery = evaluation.pair(comparison).gallery
    torch.testing.assert_close(gallery.vectors, view(model, NAMES).vectors)
    assert gallery.ids == tuple(NAMES.ids)
    assert evaluation.table()["value"].notna().all()


def test_mistakes_are_one_sentence(model: Model) -> None:
    for templates, message in (
        ("openai", "one of imagenet80, imagenet7"),
        ([], "one template or more"),
        (["{}", "cat"], "'cat' has not"),
    ):
        with pytest.raises(XgapError, match=message):
            xg.view("ensemble", templates=templates)(model, NAMES)
    with pytest.raises(XgapError, match="are no texts"):
        xg.view("ensemble")(model, Images(["a"], lambda _: None, "x"))
