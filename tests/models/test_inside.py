"""Adapters inside a tower: formulas, known answers, numbers of parameters, and what they start as."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xgap_analysis as xg
from xgap_analysis.models.adaptation.attached import attached
from xgap_analysis.models.adaptation.backbone import Backbone, blocks_of, shown
from xgap_analysis.models.adaptation.entered import backbone_of
from xgap_analysis.models.adaptation.experts import balance
from xgap_analysis.models.adaptation.pools import gathered
from xgap_analysis.models.adaptation.stretched import stretch
from xgap_analysis.models.fingerprint import architecture, weights_digest
from xgap_analysis.models.locks import lock_of
from xgap_analysis.models.shadows import shadowed

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
DIMS = {"image": 16, "text": 16}


def long_tokenizer(captions: Sequence[str], context_length: int = 16) -> Tensor:
    """One id a letter between start and end, as CLIP frames them."""
    ids = torch.zeros(len(captions), context_length, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        own = [1, *(2 + ord(letter) % 190 for letter in caption[: context_length - 2]), 199]
        row[: len(own)] = torch.tensor(own)
    return ids


@pytest.fixture
def long_model(model: xg.Model) -> xg.Model:
    """The small model with a tokenizer of any length."""
    return xg.models.from_open_clip(model.text.module, long_tokenizer, model.image.preprocess, name="long")


def base_of(model: xg.Model) -> Backbone:
    found = backbone_of(model, DIMS)
    assert found is not None
    return found


def part(model: xg.Model, name: str, modality: str, seed: int = 0) -> Any:
    """The part of a tower, with its adapter's weights as they are drawn."""
    return attached(xg.adapter(name), DIMS, seed=seed, base=base_of(model)).modules[modality]


def parameters(model: xg.Model, name: str) -> int:
    return sum(p.numel() for p in attached(xg.adapter(name), DIMS, base=base_of(model)).modules.parameters())


def close(a: Tensor, b: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def features(
    model: xg.Model, texts: Sequence[str] = ("a photo of a red cat", "a photo of a dog")
) -> tuple[Tensor, ...]:
    return model.image.encode(PIXELS), model.text.encode(model.text.prepare(texts))


INSIDE = ["clip-moe(experts=3, k=2)", "maple(depth=2)", "ptunifier(pool=9, image_tokens=3, text_tokens=2)"]


@pytest.mark.parametrize("name", [*INSIDE, "long-clip(keep=6)"])
def test_the_base_is_left_as_it_is_and_the_adapted_towers_can_be_inverted_into(long_model: xg.Model, name: str) -> None:
    before, names = features(long_model), [n for n, _ in long_model.text.module.named_parameters()]
    model = xg.adapted(long_model, name)
    for tower in model.towers.values():
        assert "can be inverted into" in xg.check_tower(tower)
    after = features(model)
    assert all(torch.equal(*pair) for pair in zip(before, features(long_model), strict=True))
    assert names == [n for n, _ in long_model.text.module.named_parameters()]
    assert model.fingerprint != long_model.fingerprint
    assert after[0].shape == before[0].shape
    patches, mask = model.image.hidden(PIXELS)
    assert patches.shape == (3, 16, 16)
    assert mask.all()
    images = xg.encode(model, [noise(seed) for seed in range(2)], store=None, progress=False)
    oti = xg.invert(model, images, steps=4, progress=False)
    assert (oti.loss[-1] < oti.loss[0]).all()


def noise(seed: int) -> Any:
    from PIL import Image

    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8))


def test_what_is_shown_is_gone_afterwards_also_after_an_error() -> None:
    module = nn.Linear(2, 2)
    weight = module.weight

    def fails() -> None:
        with shadowed([(module, "weight", torch.ones(2, 2)), (module, "extra", 3)]):
            assert float((module(torch.ones(1, 2)).sum() - module.bias.sum()).detach()) == pytest.approx(4, abs=1e-6)
            assert list(module.state_dict()) == ["weight", "bias"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert module.weight is weight
    assert not hasattr(module, "extra")


@pytest.mark.parametrize(
    "name", ["maple(depth=2)", "clip-moe(experts=2, k=1)", "ptunifier(pool=9, text_tokens=2, image_tokens=3)"]
)
def test_an_adapter_is_made_between_passes_of_other_threads_and_not_within(model: xg.Model, name: str) -> None:
    """In the midst of a pass the base shows parts of that pass's adapter, of which nothing can be made."""
    module, inside, made = model.text.module, threading.Event(), threading.Event()
    other = attached(xg.adapter(name), DIMS, seed=3, base=base_of(model))

    def passes() -> None:
        with lock_of(module), other.within(module):
            inside.set()
            made.wait(0.3)

    thread = threading.Thread(target=passes)
    thread.start()
    inside.wait()
    again = attached(xg.adapter(name), DIMS, seed=3, base=base_of(model))
    assert again.is_whole(module, "image") is False
    made.set()
    thread.join()
    assert architecture(again.modules) == architecture(other.modules)
    assert weights_digest(again.modules) == weights_digest(other.modules)


def test_base_and_adapted_model_in_threads_see_nothing_of_each_other(model: xg.Model) -> None:
    models = [model, xg.adapted(model, "maple(depth=2)"), xg.adapted(model, "clip-moe(experts=2, k=1)", seed=2)]
    drawn = torch.Generator().manual_seed(1)
    for parameter in models[2].image._own.modules.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=drawn)
    expected, wrong = [features(m) for m in models], []

    def works(m: xg.Model, right: tuple[Tensor, ...]) -> None:
        for _ in range(10):
            if not all(torch.allclose(a, b, atol=1e-5) for a, b in zip(features(m), right, strict=True)):
                wrong.append(m.name)

    threads = [threading.Thread(target=works, args=pair) for pair in zip(models, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_base_is_left_as_it_is_also_after_an_error_inside_a_pass(model: xg.Model) -> None:
    adapted = xg.adapted(model, "maple(depth=2)")
    before, own = features(model), adapted.image._own.modules["image"]
    shown = {name: dict(part.__dict__) for name, part in model.text.module.named_modules()}
    own.maps[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapted.image.encode(PIXELS)
    assert {name: part.__dict__.keys() for name, part in model.text.module.named_modules()} == {
        name: entries.keys() for name, entries in shown.items()
    }
    assert all(torch.equal(*pair) for pair in zip(before, features(model), strict=True))


# Long-CLIP


def test_a_table_is_stretched_by_interpolation_and_goes_on_at_its_end() -> None:
    made = stretch(torch.arange(77.0)[:, None].expand(77, 3))
    assert made.shape == (248, 3)
    assert made[[0, 19, 20, 23, 243, 244, 247], 0].tolist() == [0, 19, 20, 20.75, 75.75, 76, 76.75]
    table = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    made = stretch(table, 3, 5)
    later, rows = table[3:].double().numpy(), [table[:3].double().numpy()]
    for i in range(6):
        step = later[i + 1] - later[i] if i < 5 else later[5] - later[4]
        rows.append(np.stack([later[i] + r / 5 * step for r in range(5)]))
    np.testing.assert_allclose(made.numpy(), np.concatenate(rows), atol=1e-6)


def test_long_clip_starts_as_the_base_on_short_captions_and_reads_long_ones(long_model: xg.Model) -> None:
    model = xg.adapted(long_model, "long-clip(keep=6, factor=3)")
    assert model.text.length == 6 + 3 * 10
    assert model.image is long_model.image
    short = ["", "abcd"]
    close(model.text.encode(model.text.prepare(short)), long_model.text.encode(long_model.text.prepare(short)))
    long = ["a caption of thirty letters yes", "a caption of thirty letters not"]
    made = model.text.encode(model.text.prepare(long))
    assert (made[0] - made[1]).abs().max() > 1e-3  # they differ behind the base's 16 tokens
    cut = long_model.text.encode(long_model.text.prepare(long))
    assert torch.equal(cut[0], cut[1])
    assert parameters(long_model, "long-clip(keep=6, factor=3)") == 3 * 10 * 32
    shortcut = model.text.shortcut(model.text.prepare(["ab"])[0], 1, 1)
    assert shortcut is not None
    tokens = model.text.embed(model.text.prepare(["ab"]))
    close(shortcut(tokens[:, 1:2]), model.text.encode(model.text.prepare(["ab"])), atol=1e-5)


def test_an_adapted_long_clip_is_the_published_file_of_the_same_weights(long_model: xg.Model) -> None:
    """The loader of the authors' files puts two tables together; the adapter stretches one to the same."""
    from xgap_analysis.models.adapters.longclip import KEPT

    table = torch.randn(77, 8, generator=torch.Generator().manual_seed(2))
    made = stretch(table)
    assert torch.equal(made[:KEPT], table[:KEPT])
    assert len(made) == 248


# MaPLe


def test_prompts_have_the_stated_number_of_parameters_and_start_as_the_template(model: xg.Model) -> None:
    n, a, b = 2, 32, 32
    for depth in (1, 2):
        assert parameters(model, f"maple(depth={depth})") == depth * (n * a + a * b + b)
    assert 9 * (2 * 512 + 512 * 768 + 768) == 3_555_072  # the published size
    adapted = xg.adapted(model, "maple(depth=1)")
    ids = model.text.prepare(["a photo of a red cat", "a photo of a dog"])
    close(adapted.text.encode(adapted.text.prepare(["red cat", "a photo of a dog"])), model.text.encode(ids))
    assert (adapted.image.encode(PIXELS) - model.image.encode(PIXELS)).abs().max() > 1e-3


def test_prompts_go_into_both_towers_as_written_out(model: xg.Model) -> None:
    """One block after the other, with the prompts put in between."""
    adapted = xg.adapted(model, "maple(depth=2)", seed=3)
    images = adapted.image._own.modules["image"]
    texts, module = images.texts, model.text.module
    assert adapted.text._own.modules["text"] is texts
    ids = adapted.text.prepare(["cat", "red dog"])
    x = module.token_embedding(ids)
    x = torch.cat([x[:, :1], texts.ctx.expand(2, -1, -1), x[:, 3:]], dim=1) + module.positional_embedding
    first, second = module.transformer.resblocks
    x = first(x, attn_mask=module.attn_mask)
    x = second(torch.cat([x[:, :1], texts.deep[0].expand(2, -1, -1), x[:, 3:]], 1), attn_mask=module.attn_mask)
    pooled = module.ln_final(x)[torch.arange(2), ids.argmax(1)] @ module.text_projection
    close(adapted.text.encode(ids), pooled, atol=1e-5)
    visual = module.visual
    patches = visual.conv1(PIXELS).flatten(2).transpose(1, 2)
    y = torch.cat([visual.class_embedding.expand(3, 1, -1), patches], 1) + visual.positional_embedding
    y = visual.ln_pre(torch.cat([y, images.maps[0](texts.ctx).expand(3, -1, -1)], 1))
    first, second = visual.transformer.resblocks
    y = torch.cat([first(y)[:, :-2], images.maps[1](texts.deep[0]).expand(3, -1, -1)], 1)
    close(adapted.image.encode(PIXELS), visual.ln_post(second(y)[:, 0]) @ visual.proj, atol=1e-5)


def test_prompts_of_images_alone_go_beside_the_patches_as_written_out(model: xg.Model) -> None:
    name = "image-prompts(length=5)"
    assert parameters(model, name) == 5 * 32
    assert 16 * 768 == 12_288  # the published size
    adapted = xg.adapted(model, name, seed=3)
    assert adapted.text is model.text
    prompts, visual = adapted.image._own.modules["image"].prompts, model.text.module.visual
    reach = (6 / (visual.conv1.weight[0].numel() + 32)) ** 0.5
    assert 0.8 * reach < float(prompts.abs().max()) <= reach
    patches = visual.conv1(PIXELS).flatten(2).transpose(1, 2)
    y = torch.cat([visual.class_embedding.expand(3, 1, -1), patches], 1) + visual.positional_embedding
    y = visual.ln_pre(torch.cat([y[:, :1], prompts.expand(3, -1, -1), y[:, 1:]], 1))  # where the authors put them
    for block in visual.transformer.resblocks:
        y = block(y)
    close(adapted.image.encode(PIXELS), visual.ln_post(y[:, 0]) @ visual.proj, atol=1e-5)


# CLIP-MoE


def test_copies_of_an_mlp_are_the_base_whatever_the_gate_says(model: xg.Model) -> None:
    d = 32
    for name, blocks in (
        ("clip-moe(experts=3, k=2)", 4),
        ("clip-moe(experts=4, k=4, image_blocks=1, text_blocks=0)", 1),
    ):
        experts = int(name.split("=")[1][0])
        assert parameters(model, name) == blocks * ((experts - 1) * (8 * d**2 + 5 * d) + experts * d)
        for plain, made in zip(features(model), features(xg.adapted(model, name, seed=4)), strict=True):
            close(made, plain)


def test_all_experts_of_an_even_gate_are_their_mean_and_k_of_them_are_chosen(model: xg.Model) -> None:
    own = part(model, "clip-moe(experts=3, k=3, text_blocks=0, image_blocks=1)", "image")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in own.experts.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        own.gates[0].zero_()
    block = model.text.module.visual.transformer.resblocks[-1]
    x = torch.randn(2, 5, 32, generator=generator)
    ((_, _, routed),) = own.shadows(model.text.module)
    mlps = [block.mlp, *own.experts[0]]
    close(routed(x), torch.stack([mlp(x) for mlp in mlps]).mean(0))
    with torch.no_grad():
        own.gates[0].copy_(torch.randn(3, 32, generator=generator))
    own.k = 2
    ((_, _, routed),) = own.shadows(model.text.module)
    logits = (x @ own.gates[0].T).detach().double().numpy()
    outputs = np.stack([mlp(x).detach().double().numpy() for mlp in mlps])
    expected = np.zeros((2, 5, 32))
    for i in range(2):
        for j in range(5):
            weights = np.exp(logits[i, j])
            best = np.argsort(-weights)[:2]
            expected[i, j] = sum(weights[e] * outputs[e, i, j] for e in best) / weights[best].sum()
    np.testing.assert_allclose(routed(x).detach().numpy(), expected, atol=1e-5)


def test_balance_is_k_for_even_use_and_more_where_one_expert_takes_all() -> None:
    even = torch.eye(4).repeat(3, 1) + torch.eye(4).roll(1, 0).repeat(3, 1)
    assert balance((even + 1e-6) / (even + 1e-6).sum(1, keepdim=True), 2) == pytest.approx(2)
    assert balance(torch.tensor([[0.7, 0.1, 0.1, 0.1]]).expand(8, 4), 2) > 2


# PTUnifier


def test_a_pool_gives_the_nearest_rows_whatever_their_order_and_only_these_a_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    pool, query = torch.randn(7, 4, generator=generator, requires_grad=True), torch.randn(2, 4, generator=generator)
    made = gathered(pool, query, 3)
    scores = query.double().numpy() @ pool.detach().double().numpy().T
    for i in range(2):
        best = np.argsort(-scores[i])[:3]
        np.testing.assert_allclose(made[i].detach().numpy(), pool.detach().numpy()[best], atol=0)
    close(gathered(pool[torch.randperm(7, generator=generator)], query, 3), made, atol=0)
    close(gathered(pool, query, 7).sum(1), pool.sum(0).expand(2, 4), atol=1e-5)
    gathered(pool, query[:1], 3).sum().backward()
    assert pool.grad is not None
    assert sorted(pool.grad.abs().sum(1).nonzero().flatten().tolist()) == sorted(np.argsort(-scores[0])[:3].tolist())


def test_pools_go_behind_the_first_token_as_written_out(model: xg.Model) -> None:
    name = "ptunifier(pool=9, image_tokens=3, text_tokens=2)"
    assert parameters(model, name) == 9 * (32 + 32)
    assert 2 * 2048 * 768 == 3_145_728  # the published size
    adapted = xg.adapted(model, name, seed=2)
    module = model.text.module
    visual, pool = module.visual, adapted.image._own.modules["image"].pool
    patches = visual.conv1(PIXELS).flatten(2).transpose(1, 2)
    y = torch.cat([visual.class_embedding.expand(3, 1, -1), patches], 1) + visual.positional_embedding
    y = visual.ln_pre(y)
    own = gathered(pool, y[:, 1:].mean(1), 3)
    y = torch.cat([y[:, :1], own, y[:, 1:]], 1)
    for block in visual.transformer.resblocks:
        y = block(y)
    close(adapted.image.encode(PIXELS), visual.ln_post(y[:, 0]) @ visual.proj, atol=1e-5)
    ids = model.text.prepare(["two words", "and now four words"])
    x = module.token_embedding(ids) + module.positional_embedding
    words = ((ids != 0) & (ids != 1) & (ids != 199)).float()
    own = gathered(
        adapted.text._own.modules["text"].pool, (x * words[..., None]).sum(1) / words.sum(1, keepdim=True), 2
    )
    x = torch.cat([x[:, :1], own, x[:, 1:]], 1)
    causal = torch.full((18, 18), float("-inf")).triu(1)
    for block in module.transformer.resblocks:
        x = block(x, attn_mask=causal)
    pooled = module.ln_final(x)[torch.arange(2), 2 + ids.argmax(1)] @ module.text_projection
    close(adapted.text.encode(ids), pooled, atol=1e-5)
    assert adapted.text.encode(model.text.prepare([""])).isfinite().all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("long-clip", "a table of 16 positions keeps 0 to 14 of them as they are, not 20"),
        ("long-clip(keep=4, factor=1)", "stretched by a whole factor of 2 or more"),
        ("long-clip(keep=4)", "takes no context_length, so it gives no captions of 52 tokens"),
        ("maple", r"enters 1 to 2 blocks of this model \(depth\), not 9"),
        ("maple(depth=1, template='{} photo')", "the template of maple has 2 words or more before"),
        ("maple(depth=x)", r"adapter maple\(depth=x\) cannot be made with these options \(TypeError: "),
        ("image-prompts(length=0)", "image-prompts has 1 token or more, not 0"),
        ("clip-moe(experts=1)", "clip-moe has 2 to 64 experts"),
        ("clip-moe(k=1.5)", "clip-moe has 2 to 64 experts"),
        ("clip-moe(text_blocks=3)", "the text tower has 2 blocks, and experts are wanted in 3"),
        ("ptunifier(pool=8)", "an item gets 1 to 8 tokens of a pool of 8, not 32"),
    ],
)
def test_mistakes_are_one_sentence(model: xg.Model, name: str, message: str) -> None:
    with pytest.raises(xg.XgapError, match=message) as caught:
        xg.adapted(model, name)
    assert "\n" not in str(caught.value)


def test_a_model_without_modules_to_enter_is_reported(make_model: Callable[..., xg.Model]) -> None:
    words = xg.as_model(lambda captions: torch.tensor([[len(c), c.count("a") + 1.0] for c in captions]))
    with pytest.raises(
        xg.XgapError, match=r"adapter clip-moe enters the modules of a model \(mlp\), and only those of"
    ):
        xg.adapted(words, "clip-moe")
    with pytest.raises(xg.XgapError, match="a causal text tower that pools its end token, and this one is none"):
        xg.adapted(make_model("siglip"), "long-clip(keep=4)")
    with pytest.raises(xg.XgapError, match=r"a text tower of another library \(HFTextEncoder\)"):
        xg.adapted(make_model("hugging-face"), "maple(depth=1)")


@pytest.mark.parametrize("name", ["maple(depth=1)", "vdr", "lexvla", "matching"])
def test_an_adapter_that_reads_captions_is_refused_where_there_is_no_text_tower(model: xg.Model, name: str) -> None:
    images = replace(model, towers={"image": model.image})
    with pytest.raises(xg.XgapError, match="this adapter reads captions, and the model has no text tower"):
        xg.adapted(images, name)


def test_a_tower_that_an_adapter_does_not_fit_is_named(model: xg.Model) -> None:
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP

    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 200, "width": 16, "heads": 2, "layers": 1}
    pooled = {"attentional_pool": True, "attn_pooler_queries": 2, "attn_pooler_heads": 2, "output_tokens": True}
    coca = CoCa(8, text, {**text, "embed_cls": True, "output_tokens": True}, {**vision, **pooled})
    resnet = CLIP(8, {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}, text)
    for module, name, message in (
        (resnet, "clip-moe", "enters the blocks of a ViT, and the image tower of the model has none"),
        (coca, "ptunifier(pool=9, image_tokens=3, text_tokens=2)", "does not fit the text tower of this model"),
    ):
        base = xg.models.from_open_clip(module, model.tokenize.silent, model.image.preprocess, name="other")
        with pytest.raises(xg.XgapError, match=message) as caught:
            xg.adapted(base, name)
        assert "\n" not in str(caught.value)


def test_blocks_that_are_called_one_by_one_are_entered_too(make_model: Callable[..., xg.Model]) -> None:
    """EVA in timm gives each block its rotations, where other ViTs call all blocks as one."""
    module = make_model("timm-linear").image.module
    owner, name, blocks = blocks_of(module, "image")
    assert list(shown(owner, name, blocks)[2]) == blocks


def test_without_a_class_token_all_patches_choose_the_tokens_of_a_pool(model: xg.Model) -> None:
    own = part(model, "ptunifier(pool=9, image_tokens=3, text_tokens=2)", "image")
    patches = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    close(own._with_pool(patches, [], first=0), torch.cat([gathered(own.pool, patches.mean(1), 3), patches], 1))


@pytest.mark.parametrize("kind", ["quickgelu", "average-pool", "custom", "siglip", "timm-linear"])
@pytest.mark.parametrize("name", INSIDE)
def test_they_enter_any_backbone_of_open_clip_and_timm(
    make_model: Callable[..., xg.Model], kind: str, name: str
) -> None:
    base = make_model(kind)
    model = xg.adapted(base, name)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    made, plain = model.image.encode(pixels), base.image.encode(pixels)
    assert made.shape == plain.shape
    if name.startswith("clip-moe"):
        close(made, plain, atol=1e-5)
    else:
        assert (made - plain).abs().max() > 1e-4
    for tower, batch in ((model.image, pixels), (model.text, model.text.prepare(["a photo of cat", "two red cars"]))):
        close(tower.encode_tokens(tower.embed(batch), batch), tower.encode(batch), atol=1e-5)
