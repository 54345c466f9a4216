"""Towers of clips are fitted to texts: what is trained moves, the rest stays, and the curriculum adds frames."""

from typing import Any

import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.fingerprint import weights_of
from xgap_analysis.models.video import video_tower, with_frames
from xgap_analysis.training.frames import fit_frames

FEW = {"epochs": 2, "batch": 8, "store": None}


@pytest.fixture(scope="module")
def clips() -> Any:
    data = xg.load_dataset("emoji-clips").split("train")
    video = data.items["video"].select(data.items["video"].ids[:8])
    owner = {i: clip for i, clip in data.labels["clip"].items() if clip in set(video.ids)}
    return data.texts.select([i for i in data.texts.ids if i in owner]), video, owner


@pytest.fixture(scope="module")
def model() -> Any:
    return xg.load_model("tiny")


@pytest.mark.parametrize(
    ("name", "how", "moved"),
    [
        ("prompt_switch(prompts=2)", {"frames": 2, "learning_rate": 5e-3}, {"cube", "head"}),
        ("space_time(frames=2)", {"curriculum": (1, 2), "learning_rate": 2e-4}, {"time", "over_time"}),
    ],
)
def test_a_tower_is_fitted_and_the_model_is_left_as_it_is(
    model: Any, clips: Any, name: str, how: dict[str, Any], moved: set[str]
) -> None:
    texts, video, owner = clips
    before = weights_of(model.towers)
    start = video_tower(model, name)[0].module.state_dict()
    made = fit_frames(model, name, texts, video, pairs=owner, **{**FEW, **how})
    assert made.losses[-1] < made.losses[0]
    assert len(made.losses) == (4 if "curriculum" in how else 2)
    tower = made.model.tower("video")
    assert tower.frames == 2
    changed = {k.split(".")[0] for k, w in tower.module.state_dict().items() if not torch.equal(w, start[k])}
    assert moved <= changed
    assert ("visual" in changed) is ("curriculum" in how), "prompts leave the weights of the tower as they are"
    assert weights_of(model.towers) == before
    assert made.model.weights_digest != model.weights_digest
    torch.testing.assert_close(made.model.text.encode(model.tokenize(["a"])), model.text.encode(model.tokenize(["a"])))
    again = fit_frames(model, name, texts, video, pairs=owner, **{**FEW, **how, "epochs": 1})
    assert again.losses[0] == pytest.approx(made.losses[0], rel=1e-4)


def test_times_that_the_curriculum_has_not_read_are_zero(model: Any, clips: Any) -> None:
    texts, video, owner = clips
    how = {**FEW, "epochs": 1, "pairs": owner, "learning_rate": 1e-4}
    made = fit_frames(model, "space_time(frames=3)", texts, video, curriculum=(1,), **how)
    time = made.model.tower("video").module.time
    assert (time[1:] == 0).all()
    assert (time[0] != 0).any()


def test_a_study_compares_a_fitted_tower_with_the_mean(model: Any, clips: Any) -> None:
    texts, video, owner = clips
    made = fit_frames(model, "prompt_switch(prompts=2)", texts, video, pairs=owner, frames=2, **{**FEW, "epochs": 1})
    data = xg.load_dataset("emoji-clips").split("test").limit(3)
    models = [with_frames(model, "mean", frames=2), made.model]
    rows = xg.main_rows(xg.Study(models, [data], ["T-V"], store=None, progress=False).run())
    assert set(rows["model"]) == {"tiny+mean", "tiny+prompt_switch(prompts=2)"}
    assert rows.value.notna().all()


def test_mistakes_are_one_sentence(model: Any, clips: Any) -> None:
    texts, video, _ = clips
    with pytest.raises(XgapError, match="the tower mean has nothing to train"):
        fit_frames(model, "mean", texts, video)
    with pytest.raises(XgapError, match="no query has the id of a gallery item; give pairs"):
        fit_frames(model, "prompt_switch", texts, video)
