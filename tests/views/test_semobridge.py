"""SeMoBridge's closed form against the published steps, and its control."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import Model


@pytest.fixture(scope="module")
def tiny() -> Model:
    return xg.load_model("tiny", device="cpu")  # its weights are read as numpy


@pytest.fixture(scope="module")
def images() -> xg.Images:
    return xg.load_dataset("emoji").split("val").limit(3).images


def test_it_is_the_published_steps_and_a_projection(tiny: Model, images: xg.Images) -> None:
    made = xg.view("semobridge")(tiny, images)
    native = xg.encode(tiny, images, progress=False)
    w = tiny.tower("text").projection.detach().double().numpy()  # [p, d]
    u, s, vh = np.linalg.svd(w, full_matrices=False)
    inverse = (vh[s > 0.3].T / s[s > 0.3]) @ u[:, s > 0.3].T  # [d, p]
    pooled = native.vectors.double().numpy() @ inverse
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    published = 7.3 * pooled @ w  # any length of pooled texts
    published /= np.linalg.norm(published, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors.numpy(), published, atol=1e-6)
    projected = native.vectors.double().numpy() @ vh[s > 0.3].T @ vh[s > 0.3]
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors.numpy(), projected, atol=1e-6)
    assert (made.space, made.origin, made.ids, made.items) == ("text", "image", native.ids, native.items)
    assert (made.provenance["view"], made.provenance["rank"]) == ("semobridge", int((s > 0.3).sum()))


def test_without_a_cut_nothing_of_the_span_is_lost(tiny: Model, images: xg.Images) -> None:
    whole = xg.view("semobridge(cut=0.0)")(tiny, images)
    assert whole.provenance["rank"] == min(tiny.tower("text").projection.shape)
    again = xg.view("semobridge(cut=0.0)")(tiny, images)
    assert (whole.vectors == again.vectors).all()


def test_the_control_has_its_rank_and_its_draw(tiny: Model, images: xg.Images) -> None:
    made, other = (xg.view("semobridge-random", draw=draw)(tiny, images) for draw in (0, 1))
    whole = xg.view("semobridge")(tiny, images)
    assert made.provenance["rank"] == whole.provenance["rank"]
    names = [of.provenance["view"] for of in (whole, made)]
    assert names == ["semobridge", "semobridge-random"]  # each says what made it, and of which draw
    assert [of.provenance["draw"] for of in (made, other)] == [0, 1]
    assert float((made.vectors - other.vectors).abs().max()) > 0.01
    assert made.space == "text"


def test_it_stands_beside_oti_in_a_study(tiny: Model) -> None:
    rivals = [xg.Comparison(f"{name}-I", name, "image", baseline="I-I") for name in ("semobridge", "semobridge-random")]
    table = xg.Study([tiny], ["emoji"], ["I-I", "OTI-I", *rivals], limit=6, steps=2, progress=False).run()
    rows = xg.main_rows(table).set_index("comparison")
    assert rows["baseline"].tolist() == ["I-I"] * 4
    assert rows["value"].between(0, 1).all()
    assert rows["control"].tolist() == [False, False, False, True]
    assert rows.loc["semobridge-random-I", "reason"] == "control"
    assert pd.isna(rows.loc["semobridge-random-I", "verdict"])
    assert rows.loc["semobridge-I", "verdict"] == "inconclusive"  # of six concepts


def test_what_it_cannot_invert_is_said(tiny: Model, images: xg.Images) -> None:
    with pytest.raises(XgapError, match="no singular value of the text projection is above 1000"):
        xg.view("semobridge(cut=1000.0)")(tiny, images)
    other = SimpleNamespace(space="text", prepare=tiny.text.prepare, encode=tiny.text.encode)
    plain = dataclasses.replace(tiny, towers={"image": tiny.image, "text": other})
    with pytest.raises(XgapError, match="has no linear projection"):
        xg.view("semobridge")(plain, images)
