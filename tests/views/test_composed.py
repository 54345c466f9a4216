"""Composed queries: weights of 0 and 1 are text and reference alone, and a study compares and composes them by name."""

from typing import Any

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError

NAME, BEST = "emoji-scenes:composed", "late_interaction(inner=max)"
HOW: dict[str, Any] = {"fit_split": "seen", "limit": 20, "store": None, "progress": False}


@pytest.fixture(scope="module")
def data() -> Any:
    return xg.load_dataset(NAME).split("test")


@pytest.fixture(scope="module")
def model() -> Any:
    return xg.load_model("oracle")


def of(view: str, data: Any, model: Any, n: int = 12) -> Any:
    return xg.view(view)(model, data.texts.select(data.texts.ids[:n]), store=None, progress=False)


def test_weights_of_zero_and_one_are_the_text_and_the_reference_alone(data: Any, model: Any) -> None:
    texts = xg.encode(model, data.texts.select(data.texts.ids[:12]), store=None, progress=False)
    names = [data.labels["reference"][i] for i in texts.ids]
    images = xg.encode(model, data.images.select(names), store=None, progress=False)
    torch.testing.assert_close(of("composed(weight=0)", data, model).vectors, texts.vectors)
    torch.testing.assert_close(of("composed(weight=1)", data, model).vectors, images.vectors)
    mixed = 0.7 * texts.vectors.double().numpy() + 0.3 * images.vectors.double().numpy()
    found = of("composed(weight=0.3)", data, model)
    np.testing.assert_allclose(found.vectors, mixed / np.linalg.norm(mixed, axis=1, keepdims=True), atol=1e-6)
    assert (found.ids, found.space, found.origin, found.items) == (texts.ids, "text", "text", texts.items)
    both = of("composed(weight=None)", data, model)
    assert (both.ids, both.space, both.origin) == (texts.ids, "image+text", "text")
    torch.testing.assert_close(both.vectors, torch.stack([images.vectors, texts.vectors], dim=1).flatten(0, 1))


def test_a_study_compares_weights_and_corrections_map_each_part_in_its_own_space(data: Any, model: Any) -> None:
    names = ["text-image", "composed-image", "composed(weight=1)-image"]
    study = xg.Study([model], [NAME], names, ["none", "center"], **HOW)
    rows = xg.main_rows(study.run()).set_index(["comparison", "correction"]).value
    assert rows.notna().all()
    assert rows["composed-image", "none"] > max(rows["text-image", "none"], rows["composed(weight=1)-image", "none"])
    (evaluation,) = study.evaluations()
    centred = evaluation.fitted("center")
    texts, found = (
        evaluation.pair(comparison, "center").query for comparison in ("text-image", "composed(weight=0)-image")
    )
    torch.testing.assert_close(found.vectors, texts.vectors)
    images = centred(evaluation.native("image", "all")).select([f"{i.removesuffix('/edit')}" for i in texts.ids])
    found = evaluation.pair("composed(weight=1)-image", "center").query
    torch.testing.assert_close(found.vectors, images.vectors)


def test_the_learned_prompt_reads_the_set_in_a_study(model: Any) -> None:
    sprc = "sprc(prompts=1, layers=1, heads=4, epochs=0)"
    names = ["composed-image", "composed(weight=None)-image"]
    study = xg.Study([model], [NAME], names, scorers=[BEST, sprc], **HOW)
    rows = xg.main_rows(study.run()).set_index(["comparison", "scorer"])
    start, late = rows.loc[(names[1], sprc)], rows.loc[(names[0], BEST)]
    assert start.value == pytest.approx(late.value, abs=1e-6), "before its fit it is late fusion"
    assert start.fitted_on == "seen"
    assert not start.transductive
    assert "has one token: a composed query is a reference" in rows.loc[(names[0], sprc), "note"]
    assert rows.loc[(names[1], BEST)].value == pytest.approx(late.value, abs=1e-6), "a mean of cosines ranks alike"


def test_mistakes_are_one_sentence(data: Any, model: Any) -> None:
    with pytest.raises(XgapError, match="composed takes texts that change a reference image each"):
        xg.view("composed")(model, ["a kite"])
    for wrong in ("2", "-0.1", "'half'"):
        with pytest.raises(XgapError, match=rf"the share of the reference, lies in \[0, 1\], or is None, not {wrong}"):
            of(f"composed(weight={wrong})", data, model)
    parts = data.texts.parts["captions"]
    several = type(data.texts)(data.texts.ids, data.texts.captions, {"reference": parts})
    with pytest.raises(XgapError, match="has 2 references; a composed query has one"):
        xg.view("composed")(model, several)
