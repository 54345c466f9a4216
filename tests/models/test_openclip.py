from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import Model

TOLERANCE = {"atol": 1e-5, "rtol": 0}
WITHOUT_HEAD = {("siglip", "image"), ("siglip", "text"), ("timm-bias", "image"), ("timm-bias", "text")}
Make = Callable[..., Model]


def batch(model: Model, space: str, pixels: Tensor, captions: list[str]) -> Tensor:
    return pixels if space == "image" else model.tokenize(captions)


@pytest.mark.parametrize("space", ["image", "text"])
def test_features_are_open_clips_own(
    kind: str, space: str, make_model: Make, bare_model: Callable[..., Any], pixels: Tensor, captions: list[str]
) -> None:
    model, bare = make_model(kind), bare_model(kind)
    own = batch(model, space, pixels, captions)
    with torch.no_grad():
        expected = bare.encode_image(own) if space == "image" else bare.encode_text(own)
        torch.testing.assert_close(model.tower(space).encode(own), expected, **TOLERANCE)


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("space", ["image", "text"])
def test_embedded_tokens_give_the_features_of_their_batch(
    kind: str, space: str, shortcuts: bool, make_model: Make, pixels: Tensor, captions: list[str]
) -> None:
    model = make_model(kind, shortcuts=shortcuts)
    tower, own = model.tower(space), batch(model, space, pixels, captions)
    tokens = tower.embed(own)
    assert tokens.shape == (len(own), tower.length, tower.width)
    assert not torch.allclose(tower.encode_tokens(tokens * 1.5, own), tower.encode(own), atol=1e-3)
    torch.testing.assert_close(tower.encode_tokens(tokens, own), tower.encode(own), **TOLERANCE)


def test_the_image_shortcut_equals_the_general_way_in_value_and_gradient(kind: str, make_model: Make) -> None:
    found = []
    for shortcuts in (True, False):
        tower = make_model(kind, shortcuts=shortcuts).image
        tokens = torch.randn(3, tower.length, tower.width, generator=torch.Generator().manual_seed(2)).requires_grad_()
        features = tower.encode_tokens(tokens)
        found.append((features, *torch.autograd.grad(features.square().sum(), tokens)))
    for quick, general in zip(*found, strict=True):
        torch.testing.assert_close(quick, general, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind_", ["native", "quickgelu", "layer-scale", "custom", "average-pool"])
def test_plain_causal_text_towers_have_a_shortcut(kind_: str, make_model: Make) -> None:
    ids = torch.tensor([198, 7, 8, 9, 199, 0, 0, 0, 0, 0, 0, 0])
    assert make_model(kind_).text.shortcut(ids, 2, 2) is not None
    assert make_model(kind_, shortcuts=False).text.shortcut(ids, 2, 2) is None
    assert make_model(kind_).text.shortcut(ids, 3, 2) is None  # the slots reach over the pooled position


@pytest.mark.parametrize("kind_", ["qk-norm", "siglip", "timm-linear", "hugging-face"])
def test_other_text_towers_take_the_general_way(kind_: str, make_model: Make) -> None:
    assert make_model(kind_).text.shortcut(torch.tensor([198, 7, 8, 9, 199, *[0] * 7]), 2, 2) is None


@pytest.mark.parametrize("start", [0, 1, 3])
@pytest.mark.parametrize("kind_", ["native", "quickgelu", "layer-scale", "custom", "average-pool"])
def test_the_prompt_shortcut_equals_the_full_pass_in_value_and_gradient(
    kind_: str, start: int, make_model: Make
) -> None:
    tower = make_model(kind_).text
    ids = torch.tensor([198, 7, 8, 9, 10, 11, 199, 0, 0, 0, 0, 0])
    pseudo = torch.randn(4, 2, tower.width, generator=torch.Generator().manual_seed(3)).requires_grad_()
    tokens = tower.embed(ids.expand(4, -1)).clone()
    tokens[:, start : start + 2] = pseudo
    full, quick = tower.encode_tokens(tokens, ids), tower.shortcut(ids, start, 2)(pseudo)
    torch.testing.assert_close(quick, full, **TOLERANCE)
    slopes = [torch.autograd.grad(f.square().sum(), pseudo)[0] for f in (quick, full)]
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", ["image", "text"])
def test_features_before_the_projection_times_the_projection_are_the_features(
    kind: str, space: str, make_model: Make, pixels: Tensor, captions: list[str]
) -> None:
    model = make_model(kind)
    tower, own = model.tower(space), batch(model, space, pixels, captions)
    before = tower.encode(own)
    if (kind, space) in WITHOUT_HEAD:
        with pytest.raises(XgapError, match="projection"):
            _ = tower.projection
        with pytest.raises(XgapError, match="projection"):
            tower.encode(own, project=False)
    else:
        inner = tower.encode(own, project=False)
        torch.testing.assert_close(inner @ tower.projection, before, **TOLERANCE)
    assert torch.equal(tower.encode(own), before)  # the head is back in its place


def test_weights_are_frozen_and_gradients_reach_the_tokens(kind: str, make_model: Make, captions: list[str]) -> None:
    model = make_model(kind)
    ids = model.tokenize(captions)
    for tower, own in ((model.image, None), (model.text, ids)):
        tokens = torch.randn(5, tower.length, tower.width).requires_grad_()
        tower.encode_tokens(tokens, own).sum().backward()
        assert tokens.grad.abs().sum() > 0
        assert not tower.embed(ids if own is not None else torch.zeros(1, 3, 32, 32)).requires_grad


def test_a_tower_says_what_it_needs(make_model: Make) -> None:
    model = make_model("native")
    with pytest.raises(XgapError, match=r"\[n, 16, 32\], not \[2, 3, 32\]"):
        model.image.encode_tokens(torch.zeros(2, 3, 32))
    with pytest.raises(XgapError, match="ids"):
        model.text.encode_tokens(torch.zeros(2, 12, 32))
    with pytest.raises(XgapError, match="audio"):
        model.tower("audio")
    with pytest.raises(XgapError, match="precision"):
        make_model("native", precision="int8")


def test_a_resnet_encodes_but_has_no_patches() -> None:
    from open_clip.model import CLIP

    from xgap_analysis.models import from_open_clip

    text = {"context_length": 6, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 32}
    ids = torch.zeros(1, 6, dtype=torch.long)
    model = from_open_clip(CLIP(16, vision, text), lambda captions: ids, torch.ones, name="resnet")
    assert model.image.encode(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
    with pytest.raises(XgapError, match="no patch tokens"):
        _ = model.image.width
    with pytest.raises(XgapError, match="linear projection"):
        _ = model.image.projection


def test_facts_about_a_model(make_model: Make) -> None:
    model = make_model("native")
    assert model.activation == "gelu"
    assert make_model("quickgelu").activation == "quickgelu"
    assert model.logit_scale == pytest.approx(1 / 0.07, rel=0.2)
    assert model.weights_digest == make_model("native").weights_digest
    assert model.weights_digest != make_model("native", seed=1).weights_digest


def test_autocast_is_near_and_gives_float32(make_model: Make, pixels: Tensor, captions: list[str]) -> None:
    exact, rough = make_model("native"), make_model("native", precision="bf16")
    for space in ("image", "text"):
        own = batch(exact, space, pixels, captions)
        found = rough.tower(space).encode(own)
        assert found.dtype == torch.float32
        assert torch.cosine_similarity(found, exact.tower(space).encode(own)).min() > 0.99
        assert not torch.equal(found, exact.tower(space).encode(own))
