"""Patch and word tokens in the space of a tower's features, against the tower's own pooling."""

import pytest
import torch
from torch import Tensor

from tests.conftest import random_model, tokenize
from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import Model, from_open_clip
from xgap_analysis.models.tower import tokens_of

CPU = torch.device("cpu")


def model_with(vision: dict[str, object], text: dict[str, object] | None = None, custom: bool = False) -> Model:
    from open_clip import image_transform
    from open_clip.model import CLIP, CustomTextCLIP

    image = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, **vision}
    words = {"context_length": 16, "vocab_size": 200, "width": 32, "heads": 2, "layers": 2, **(text or {})}
    torch.manual_seed(0)
    made = (CustomTextCLIP if custom else CLIP)(embed_dim=16, vision_cfg=image, text_cfg=words)
    return from_open_clip(made, tokenize, image_transform(32, is_train=False), name="own")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_projected_patches_is_the_feature_of_a_tower_that_pools_by_the_mean(pixels: Tensor) -> None:
    model = model_with({"pool_type": "avg"})
    tokens, mask = tokens_of(model.image, pixels, 3, CPU)
    assert tokens.shape == (3, 16, 16)
    assert bool(mask.all())
    torch.testing.assert_close(tokens.mean(dim=1), model.image.encode(pixels))


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_so_it_is_for_timm(pixels: Tensor, pool: str) -> None:
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": pool, "timm_proj": "linear", "image_size": 224}
    model = model_with(vision, custom=True)
    large = torch.nn.functional.interpolate(pixels[:2], 224)
    tokens, _ = tokens_of(model.image, large, 2, CPU)
    assert tokens.shape == (2, 196, 16)
    if pool == "avg":  # layer norm after the mean: the mean of normalised patches is near the feature, and not it
        pooled = model.image.encode(large)
        assert bool((torch.cosine_similarity(tokens.mean(dim=1), pooled) > 0.9).all())


@pytest.mark.parametrize("custom", [False, True])
def test_the_last_word_of_a_tower_that_pools_there_is_its_feature(custom: bool) -> None:
    model = model_with({}, custom=custom)
    ids = tokenize(["a red bear", "bear"])
    tokens, mask = tokens_of(model.text, ids, 2, CPU)
    assert mask.sum(dim=1).tolist() == [3, 1]  # neither start nor end nor padding
    ends = ids.argmax(dim=1)
    torch.testing.assert_close(tokens[torch.arange(2), ends], model.text.encode(ids))


def test_a_word_is_not_changed_by_what_follows_it_in_a_causal_tower() -> None:
    text = random_model().text
    one, _ = tokens_of(text, tokenize(["a red bear"]), 1, CPU)
    two, _ = tokens_of(text, tokenize(["a red bear sleeps"]), 1, CPU)
    torch.testing.assert_close(one[0, :4], two[0, :4])


def test_a_tower_without_tokens_is_refused(pixels: Tensor) -> None:
    resnet = {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32}
    with pytest.raises(XgapError, match=r"image tower \(ModifiedResNet\) is no ViT"):
        model_with(resnet).image.hidden(pixels)
    pooled = model_with({"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2})
    with pytest.raises(XgapError, match="ends in an attention pool"):
        pooled.image.hidden(pixels)

    class Plain:
        space = "sound"

    with pytest.raises(XgapError, match=r"sound tower .* gives one vector per item"):
        tokens_of(Plain(), [1], 1, CPU)


def test_a_tower_that_gives_something_else_is_named() -> None:
    class Odd:
        space = "sound"

        def hidden(self, batch: object) -> Tensor:
            return torch.ones(2, 3)

    with pytest.raises(XgapError, match=r"gives \[2, 3\] and NoneType for 2 items"):
        tokens_of(Odd(), [1, 2], 2, CPU)


def test_items_are_encoded_alike_alone_and_in_company(pixels: Tensor) -> None:
    image = random_model().image
    together, _ = tokens_of(image, pixels, 3, CPU)
    alone, _ = tokens_of(image, pixels[1:2], 1, CPU)
    torch.testing.assert_close(alone[0], together[1])
