"""Features after some of a tower's blocks: the library's own pass, with later blocks that pass their input on."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import xgap_analysis as xg
from tests.models.test_openclip import TOLERANCE, Make, batch
from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.locks import lock_of


def blocks_of(bare: Any, space: str) -> Any:
    """The blocks of a bare model, by the names that its library gives them."""
    part = bare.visual if space == "image" else getattr(bare, "text", bare)
    if hasattr(part, "trunk"):
        return part.trunk.blocks
    return part.transformer.encoder.layer if hasattr(part, "pooler") else part.transformer.resblocks


def unchanged(_: Any, given: tuple[Any, ...], made: Any) -> Any:
    """What a block was given, in the form of what it gives: a tuple in transformers before version 5."""
    return (given[0], *made[1:]) if isinstance(made, tuple) else given[0]


@torch.no_grad()
@pytest.mark.parametrize("space", ["image", "text"])
def test_an_early_layer_is_the_own_pass_without_the_later_blocks(
    kind: str, space: str, make_model: Make, bare_model: Callable[..., Any], pixels: Tensor, captions: list[str]
) -> None:
    model, bare = make_model(kind), bare_model(kind)
    tower, own = model.tower(space), batch(model, space, pixels, captions)
    blocks = blocks_of(bare, space)
    assert tower.blocks == len(blocks) == (3 if space == "text" and kind != "hugging-face" else 2)
    seen = []
    for layer in range(1, len(blocks) + 1):
        hooks = [block.register_forward_hook(unchanged) for block in blocks[layer:]]
        expected = bare.encode_image(own) if space == "image" else bare.encode_text(own)
        for hook in hooks:
            hook.remove()
        seen.append(tower.encode(own, layer=layer))
        torch.testing.assert_close(seen[-1], expected, **TOLERANCE)
    torch.testing.assert_close(seen[-1], tower.encode(own), **TOLERANCE)
    assert all((one - seen[-1]).abs().max() > 1e-2 for one in seen[:-1])
    for layer in (0, -1, len(blocks) + 1):
        with pytest.raises(XgapError, match=f"is from 1 to {len(blocks)}, not {layer}"):
            tower.encode(own, layer=layer)
    torch.testing.assert_close(tower.encode(own), seen[-1], **TOLERANCE)  # all blocks are back


@torch.no_grad()
def test_a_layer_is_written_out(
    make_model: Make, bare_model: Callable[..., Any], pixels: Tensor, captions: list[str]
) -> None:
    model, bare = make_model("native"), bare_model("native")
    x = bare.visual._embeds(pixels)
    x = bare.visual.transformer.resblocks[0](x)
    expected = bare.visual.ln_post(x)[:, 0]
    torch.testing.assert_close(model.image.encode(pixels, layer=1), expected @ bare.visual.proj, **TOLERANCE)
    torch.testing.assert_close(model.image.encode(pixels, layer=1, project=False), expected, **TOLERANCE)
    ids = model.tokenize(captions)
    y = bare.token_embedding(ids) + bare.positional_embedding
    for block in bare.transformer.resblocks[:2]:
        y = block(y, attn_mask=bare.attn_mask)
    pooled = bare.ln_final(y)[torch.arange(len(ids)), ids.argmax(dim=1)] @ bare.text_projection
    torch.testing.assert_close(model.text.encode(ids, layer=2), pooled, **TOLERANCE)


@pytest.mark.parametrize("space", ["image", "text"])
def test_blocks_are_counted_between_passes_of_other_threads_and_not_within(space: str, make_model: Make) -> None:
    tower = make_model("native").tower(space)
    whole, inside, counted = tower.blocks, threading.Event(), threading.Event()

    def passes() -> None:
        with lock_of(tower.module), tower.depth.first(1):
            inside.set()
            counted.wait(0.3)

    thread = threading.Thread(target=passes)
    thread.start()
    inside.wait()
    assert tower.blocks == whole > 1
    counted.set()
    thread.join()


def test_towers_without_blocks_say_so() -> None:
    own = xg.as_model(lambda captions: torch.ones(len(captions), 3), ["text"], name="mine")
    with pytest.raises(XgapError, match=r"text tower of model 'mine' .* no blocks that can be read"):
        xg.encode(own, ["a"], layer=1)
    with pytest.raises(XgapError, match="no blocks"):
        xg.encode(xg.load_model("oracle"), xg.load_dataset("emoji").split("test").texts, layer=1)


INSIDE = [
    "clip-moe(experts=3, k=2)",
    "maple(depth=2)",
    "ptunifier(pool=9, image_tokens=3, text_tokens=2)",
    "image-prompts(length=3)",
    "vdr",
]


@torch.no_grad()
@pytest.mark.parametrize("name", [*INSIDE, "head(width=4)", "head(width=None)"])
@pytest.mark.parametrize("kind_", ["native", "timm-linear"])
def test_a_layer_of_an_adapted_tower_is_its_own_pass_without_the_later_blocks(
    name: str, kind_: str, make_model: Make, pixels: Tensor, captions: list[str]
) -> None:
    base = make_model(kind_)
    model = xg.adapted(base, name, seed=3)
    for space in ("image", "text"):
        own = getattr(model.tower(space), "weights", None)  # of the base, then of the adapter
        for parameter in () if own is None else own[-1].parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    for space in ("image", "text"):
        tower, own = model.tower(space), batch(model, space, pixels, captions)
        blocks = blocks_of(base.tower(space).module, space)
        assert tower.blocks == len(blocks)
        whole = tower.encode(own)
        hooks = [block.register_forward_hook(lambda _, given, __: given[0]) for block in blocks[1:]]
        expected = tower.encode(own)
        for hook in hooks:
            hook.remove()
        found = tower.encode(own, layer=1)
        torch.testing.assert_close(found, expected, **TOLERANCE)
        assert (found - whole).abs().max() > 1e-3
        torch.testing.assert_close(tower.encode(own, layer=len(blocks)), whole, **TOLERANCE)
        assert torch.equal(tower.encode(own), whole)  # all is back


def test_adapted_towers_without_blocks_say_so(make_model: Make) -> None:
    with pytest.raises(XgapError, match=r"the text tower .*\(ReplacedTower\) has no blocks that can be read"):
        xg.encode(xg.adapted(make_model("native"), "matching"), ["a cat"], layer=1, progress=False)
    own = xg.as_model(lambda captions: torch.ones(len(captions), 3), ["text"], name="mine")
    with pytest.raises(XgapError, match=r"\(HeadTower\) has no blocks that can be read"):
        xg.encode(xg.adapted(own, "head(width=4)"), ["a cat"], layer=1, progress=False)
