"""Where pseudo-tokens stand, and that their features are those of a plain full-length pass."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import Model
from xgap_analysis.views.inversion.invert import encode_pseudo_tokens
from xgap_analysis.views.inversion.textual import make_prompt
from xgap_analysis.views.inversion.visual import expand

Tokenize = Callable[[Sequence[str]], Tensor]
Make = Callable[..., Model]


@pytest.mark.parametrize("name", ["clip", "clip-padded-with-end", "siglip"])
@pytest.mark.parametrize("template", ["a photo of {}", "a photo of {} at night", "{}", "{} in a hat"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_slots_stand_where_words_would(name: str, template: str, count: int, tokenizers: dict[str, Tokenize]) -> None:
    tokenize = tokenizers[name]
    prompt = make_prompt(tokenize, template, count)
    expected = tokenize([template.replace("{}", " ".join(["zebra"] * count))])[0]
    slots = slice(prompt.start, prompt.start + count)
    assert prompt.ids.shape == expected.shape
    assert (expected[slots] == tokenize(["zebra"])[0, 0 if name == "siglip" else 1]).all()
    filled = prompt.ids.clone()
    filled[slots] = expected[slots]
    assert torch.equal(filled, expected)


@pytest.mark.parametrize("name", ["clip", "clip-padded-with-end", "siglip"])
def test_the_end_never_falls_off(name: str, tokenizers: dict[str, Tokenize]) -> None:
    room = 8 if name == "siglip" else 7  # 12 positions, less start, three words and end
    assert make_prompt(tokenizers[name], "a photo of {}", room).count == room
    with pytest.raises(XgapError, match=f"leaves room for {room}"):
        make_prompt(tokenizers[name], "a photo of {}", room + 1)


def test_clips_own_tokenizer() -> None:
    from open_clip import SimpleTokenizer

    prompt = make_prompt(SimpleTokenizer(), "a photo of {}", 2)
    words = SimpleTokenizer()(["a photo of cat cat"])[0]
    assert prompt.start == 4
    assert prompt.ids.shape == (77,)
    assert torch.equal(prompt.ids[[0, 1, 2, 3, 6, 7]], words[[0, 1, 2, 3, 6, 7]])
    assert int(prompt.ids.argmax()) == 6
    assert make_prompt(SimpleTokenizer(), "a photo of {}.", 1).ids[6] == 49407


@pytest.mark.parametrize(
    ("template", "count", "message"),
    [
        ("a photo", 1, "must hold {} once"),
        ("{} and {}", 1, "must hold {} once"),
        ("a photo of {}", 0, "at least one"),
        ("two {}s", 1, "inside a word"),
        ("un{} things", 1, "inside a word"),
        ("a b c d e f g h i j k l {}", 1, "fills the context"),
    ],
)
def test_templates_that_do_not_work(template: str, count: int, message: str, tokenizers: dict[str, Tokenize]) -> None:
    with pytest.raises(XgapError, match=message):
        make_prompt(tokenizers["clip"], template, count)


def full_pass(bare: Any, ids: Tensor, start: int, pseudo: Tensor) -> Tensor:
    """The whole context, written out with the model's own modules: no shortcut, no hook."""
    text = getattr(bare, "text", bare)
    x = text.token_embedding(ids).clone()
    x[start : start + len(pseudo)] = pseudo
    x = (x + text.positional_embedding)[None]
    for block in text.transformer.resblocks:
        x = block(x, attn_mask=text.attn_mask)
    pool = getattr(text, "text_pool_type", None) or text.pool_type
    end = len(ids) - 1 if pool == "last" else int((ids == 199).int().argmax())
    pooled = text.ln_final(x)[0, end]
    head = text.text_projection
    return head(pooled) if isinstance(head, torch.nn.Module) else pooled @ head


@pytest.mark.parametrize("kind_", ["native", "quickgelu", "custom", "average-pool", "siglip", "timm-linear", "qk-norm"])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("template", ["a photo of {}", "{} seen from above"])
def test_text_features_equal_a_plain_full_length_pass(
    kind_: str, count: int, template: str, make_model: Make, bare_model: Callable[..., Any]
) -> None:
    model, bare = make_model(kind_), bare_model(kind_)
    pseudo = torch.randn(3, count, 32, generator=torch.Generator().manual_seed(count))
    found = encode_pseudo_tokens(model, pseudo, template=template)
    ids = model.tokenize([template.replace("{}", " ".join(["cat"] * count))])[0]
    start = template.split().index("{}") + (kind_ != "siglip")
    with torch.no_grad():
        expected = torch.stack([full_pass(bare, ids, start, p) for p in pseudo])
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind_", ["native", "custom", "average-pool", "siglip", "timm-linear"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_image_features_equal_a_plain_pass(
    kind_: str, count: int, make_model: Make, bare_model: Callable[..., Any]
) -> None:
    model, bare = make_model(kind_), bare_model(kind_)
    visual, u, width = bare.visual, model.image.length, model.image.width
    pseudo = torch.randn(3, count, width, generator=torch.Generator().manual_seed(count))
    spread = torch.stack([pseudo[:, p * count // u] for p in range(u)], dim=1)
    with torch.no_grad():
        if hasattr(visual, "conv1"):
            grid = visual.grid_size
            made = spread.transpose(1, 2).reshape(3, width, *grid)
            visual.conv1 = torch.nn.Identity()  # so that a map of tokens goes in where pixels would
            expected = visual(made)
        else:
            trunk = visual.trunk
            x = trunk.norm_pre(trunk._pos_embed(spread))
            expected = visual.head(trunk.forward_head(trunk.norm(trunk.blocks(x))))
    found = encode_pseudo_tokens(model, pseudo, space="image")
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("p", "u"), [(1, 49), (2, 196), (4, 256), (4, 49), (49, 49)])
def test_pseudo_patches_fill_bands(p: int, u: int) -> None:
    pseudo = torch.arange(p, dtype=torch.float32)[None, :, None]
    spread = expand(pseudo, u)[0, :, 0]
    assert spread.tolist() == [u_ * p // u for u_ in range(u)]


def test_tokens_of_another_model_are_refused(make_model: Make) -> None:
    model = make_model("native")
    for space in ("text", "image"):
        with pytest.raises(XgapError, match=r"\[n, r, 32\], not \[2, 1, 31\]"):
            encode_pseudo_tokens(model, torch.zeros(2, 1, 31), space=space)
    with pytest.raises(XgapError, match="from 1 to as many"):
        encode_pseudo_tokens(model, torch.zeros(2, 17, 32), space="image")
    with pytest.raises(XgapError, match="audio"):
        encode_pseudo_tokens(model, torch.zeros(2, 1, 32), space="audio")
