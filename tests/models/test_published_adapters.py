"""Adapters from files of the formats that their authors' code writes, with weights of our own."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.models.adaptation.experts import Routed
from xgap_analysis.models.adaptation.stretched import stretch

Weights = dict[str, Tensor]
PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
LENGTH = 24
pytestmark = pytest.mark.filterwarnings("ignore:.*numbers beside those of:UserWarning")


def tokenize(captions: Sequence[str], context_length: int = LENGTH) -> Tensor:
    """One id a letter between start and end, as CLIP frames them."""
    ids = torch.zeros(len(captions), context_length, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        own = [1, *(2 + ord(letter) % 190 for letter in caption[: context_length - 2]), 199]
        row[: len(own)] = torch.tensor(own)
    return ids


@pytest.fixture(scope="module")
def clip() -> xg.Model:
    """A small CLIP of 24 tokens."""
    from open_clip import image_transform
    from open_clip.model import CLIP

    vision = {"image_size": 32, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8}
    text = {"context_length": LENGTH, "vocab_size": 200, "width": 32, "heads": 2, "layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    return xg.models.from_open_clip(made, tokenize, image_transform(32, is_train=False), name="clip")


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maple_file(path: Path) -> Path:
    """As Dassl's trainer writes it: the frozen model rides along, halves of it in fp16, class names in the buffers."""
    weights = {
        "prompt_learner.ctx": drawn(2, 32, seed=1),
        "prompt_learner.token_prefix": drawn(5, 1, 32),
        "prompt_learner.token_suffix": drawn(5, 21, 32),
        "prompt_learner.proj.weight": drawn(48, 32, seed=2).half(),
        "prompt_learner.proj.bias": drawn(48, seed=3).half(),
        "prompt_learner.compound_prompts_text.0": drawn(2, 32, seed=4),
        "prompt_learner.compound_prompt_projections.0.weight": drawn(48, 32, seed=5),
        "prompt_learner.compound_prompt_projections.0.bias": drawn(48, seed=6),
        "image_encoder.conv1.weight": drawn(48, 3, 8, 8),
        "text_encoder.positional_embedding": drawn(LENGTH, 32),
        "logit_scale": torch.tensor(4.6),
    }
    state = {"state_dict": weights, "epoch": 5, "optimizer": {"state": {}, "param_groups": []}, "val_result": None}
    torch.save(state, path)
    return path


def test_maple(clip: xg.Model, tmp_path: Path) -> None:
    model = xg.load_adapter(clip, maple_file(tmp_path / "model.pth.tar-5"))
    texts, images = model.text._own.modules["text"], model.image._own.modules["image"]
    assert str(model.text._own.adapter) == "maple(length=2, depth=2)"
    assert torch.equal(texts.ctx, drawn(2, 32, seed=1))
    assert torch.equal(texts.deep[0], drawn(2, 32, seed=4))
    assert images.texts is texts
    assert torch.equal(images.maps[0].weight, drawn(48, 32, seed=2).half().float())
    assert torch.equal(images.maps[1].bias, drawn(48, seed=6))
    begun = xg.adapted(clip, "maple(depth=2)")
    assert (model.image.encode(PIXELS) - begun.image.encode(PIXELS)).abs().max() > 1e-3
    assert not any(p.requires_grad for p in images.parameters())


def test_long_clip_positions(clip: xg.Model, tmp_path: Path) -> None:
    table = clip.text.module.positional_embedding.detach()
    residual = torch.cat([drawn(20, 32), drawn(16, 32, seed=7)])
    weights = {**clip.text.module.state_dict(), "positional_embedding_res": residual.half()}
    weights["positional_embedding"] = stretch(table, 20, 4)  # the first table, as their file has it
    torch.save(weights, tmp_path / "long.pt")
    model = xg.load_adapter(clip, tmp_path / "long.pt")
    assert str(model.text._own.adapter) == "long-clip(keep=20, factor=4)"
    part = model.text._own.modules["text"]
    assert torch.equal(part.rows, residual[20:].half().float())
    ((_, name, shown), *_) = part.shadows(clip.text.module)
    assert name == "positional_embedding"
    assert torch.equal(shown[:20], table[:20])
    weights["positional_embedding_res"] = drawn(35, 32)
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(xg.XgapError, match="35 positions are no stretch of the 24 of this model, of which 20 stay"):
        xg.load_adapter(clip, tmp_path / "other.pt")


def moe_weights(module: Any) -> Weights:
    """Experts in the last two blocks of images and the last of texts, in the place of their MLPs."""
    weights = dict(module.state_dict())
    for prefix, blocks in (("visual.transformer.resblocks.", (1, 2)), ("transformer.resblocks.", (1,))):
        for block in blocks:
            own = {n: weights.pop(n) for n in list(weights) if n.startswith(f"{prefix}{block}.mlp.")}
            for name, tensor in own.items():
                for e in range(3):
                    key = name.replace(".mlp.", f".experts.{e}.")
                    weights[key] = tensor if e == 0 else drawn(*tensor.shape, seed=10 * block + e)
            width = len(own[f"{prefix}{block}.mlp.c_proj.bias"])
            weights[f"{prefix}{block}.gate.weight"] = drawn(3, width, seed=block)
    return weights


def test_clip_moe_as_one_file(clip: xg.Model, tmp_path: Path) -> None:
    weights = moe_weights(clip.text.module)
    torch.save(weights, tmp_path / "moe.pt")
    with pytest.raises(xg.XgapError, match="no CLIP-MoE checkpoint says its k: say it, as in load_adapter"):
        xg.load_adapter(clip, tmp_path / "moe.pt")
    model = xg.load_adapter(clip, tmp_path / "moe.pt", k=1)
    name = "clip-moe(experts=3, image_blocks=2, text_blocks=1, k=1)"
    assert str(model.image._own.adapter) == name
    visual = clip.text.module.visual
    y = torch.cat([visual.class_embedding.expand(3, 1, -1), visual.conv1(PIXELS).flatten(2).transpose(1, 2)], 1)
    y = visual.ln_pre(y + visual.positional_embedding)
    y = visual.transformer.resblocks[0](y)
    for number in (1, 2):
        block, prefix = visual.transformer.resblocks[number], f"visual.transformer.resblocks.{number}."
        x = block.ln_1(y)
        y = y + block.attn(x, x, x, need_weights=False)[0]
        experts = []
        for e in range(3):
            w = {kind: weights[f"{prefix}experts.{e}.{kind}"] for kind in ("c_fc.weight", "c_fc.bias", "c_proj.weight")}
            bias = weights[f"{prefix}experts.{e}.c_proj.bias"]

            def mlp(x: Tensor, w: Weights = w, bias: Tensor = bias) -> Tensor:
                return F.gelu(x @ w["c_fc.weight"].T + w["c_fc.bias"]) @ w["c_proj.weight"].T + bias

            experts.append(mlp)
        y = y + Routed(experts, weights[f"{prefix}gate.weight"], 1)(block.ln_2(y))
    expected = visual.ln_post(y[:, 0]) @ visual.proj
    torch.testing.assert_close(model.image.encode(PIXELS), expected, atol=1e-5, rtol=1e-4)
    name = "transformer.resblocks.1.experts.0.c_fc.weight"
    weights[name] = weights[name] + 1
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(
        xg.XgapError, match="whose first experts are not the MLPs of this model: load that from the same"
    ):
        xg.load_adapter(clip, tmp_path / "other.pt", k=1)


def test_llm2clip(clip: xg.Model, language: Path, tmp_path: Path) -> None:
    start, weights = "text.text_adaptor.", {"visual.patch_embed.proj.weight": drawn(4, 3, 2, 2)}
    for i in range(4):
        for name, shape in (("ln.weight", (8,)), ("ln.bias", (8,)), ("fn.0.weight", (16, 8)), ("fn.0.bias", (16,))):
            weights[f"{start}{i}.{name}"] = drawn(*shape, seed=i)
        weights |= {f"{start}{i}.fn.3.weight": drawn(8, 16, seed=i), f"{start}{i}.fn.3.bias": drawn(8, seed=i)}
    weights |= {f"{start}4.weight": drawn(8), f"{start}4.bias": drawn(8)}
    weights |= {f"{start}5.weight": drawn(16, 8), f"{start}5.bias": drawn(16)}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, tmp_path / "epoch_20.pt")
    with pytest.raises(xg.XgapError, match="no LLM2CLIP checkpoint says its language"):
        xg.load_adapter(clip, tmp_path / "epoch_20.pt")
    model = xg.load_adapter(clip, tmp_path / "epoch_20.pt", language=str(language))
    own = model.text._own.modules["text"].adaptor
    assert torch.equal(own[3].fn[3].weight, weights[f"{start}3.fn.3.weight"])
    assert torch.equal(own[5].bias, weights[f"{start}5.bias"])
    assert model.text.encode(model.text.prepare(["a"])).shape == (1, 16)


def test_ptunifier_as_lightning_writes_it(clip: xg.Model, tmp_path: Path) -> None:
    pools = {"pseudo_vision_token_pool": drawn(60, 32), "pseudo_language_token_pool": drawn(60, 48)}
    state = {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "1.3.2", "state_dict": pools}
    torch.save({**state, "hyper_parameters": {"config": {"lr": 1e-5}}}, tmp_path / "ptunifier.ckpt")
    model = xg.load_adapter(clip, tmp_path / "ptunifier.ckpt", text_tokens=5)
    assert torch.equal(model.image._own.modules["image"].pool, pools["pseudo_language_token_pool"])
    assert torch.equal(model.text._own.modules["text"].pool, pools["pseudo_vision_token_pool"])
    torch.save({"state_dict": {**pools, "pseudo_language_token_pool": drawn(60, 47)}}, tmp_path / "other.ckpt")
    with pytest.raises(
        xg.XgapError, match=r"other.ckpt is a PTUnifier checkpoint whose image.pool is \[60, 47\], and with"
    ):
        xg.load_adapter(clip, tmp_path / "other.ckpt")


def test_vdr(clip: xg.Model, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = {
        **{f"encoder_q.ln.{kind}": drawn(32, seed=i) for i, kind in enumerate(("weight", "bias"))},
        "encoder_q.bert_model.embeddings.word_embeddings.weight": drawn(200, 32),
        **{f"encoder_p.ln_post.{kind}": drawn(48, seed=i) for i, kind in enumerate(("weight", "bias"))},
        "encoder_p.proj": drawn(197, 48),
    }
    save_file(weights, tmp_path / "model.safetensors")
    model = xg.load_adapter(clip, tmp_path / "model.safetensors", top=20)
    head = model.image._own.modules["image"]
    assert torch.equal(head.words, weights["encoder_p.proj"])
    assert torch.equal(head.maps.bias, weights["encoder_p.ln_post.bias"])
    assert torch.equal(model.text._own.modules["text"].maps.weight, weights["encoder_q.ln.weight"])


def test_a_foreign_or_a_damaged_file_is_one_sentence(clip: xg.Model, tmp_path: Path) -> None:
    torch.save({"state_dict": {"linear.weight": drawn(3, 3)}}, tmp_path / "foreign.pt")
    whole = maple_file(tmp_path / "model.pth.tar-5").read_bytes()
    (tmp_path / "cut.pth.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Path("/somewhere"), protocol=2))
    (tmp_path / "empty.ckpt").write_bytes(b"")
    state = torch.load(tmp_path / "model.pth.tar-5", weights_only=True)
    del state["state_dict"]["prompt_learner.proj.bias"]
    torch.save(state, tmp_path / "without.pth")
    wrong = {
        "foreign.pt": "foreign.pt holds no adapter that is known: a CLIP-MoE checkpoint has .*a MaPLe checkpoint has",
        "cut.pth.tar": "cut.pth.tar cannot be read: .*it should hold the weights of an adapter",
        "code.pt": "code.pt cannot be read: .*it should hold the weights of an adapter",
        "empty.ckpt": "empty.ckpt cannot be read",
        "without.pth": "without.pth is a MaPLe checkpoint without prompt_learner.proj.bias",
        "nowhere.pt": "there is no checkpoint .*nowhere.pt",
        "model.zip": r"\.ckpt, \.pth\.tar is read",
    }
    for file, message in wrong.items():
        with pytest.raises(xg.XgapError, match=message) as caught:
            xg.load_adapter(clip, tmp_path / file)
        assert "\n" not in str(caught.value)
    words = xg.as_model(lambda captions: torch.tensor([[len(c), c.count("a") + 1.0] for c in captions]))
    with pytest.raises(xg.XgapError, match="is a MaPLe checkpoint, and only models of open_clip's can be entered"):
        xg.load_adapter(words, tmp_path / "model.pth.tar-5")
    with pytest.raises(xg.XgapError, match="unknown option of maple 'k'"):
        xg.load_adapter(clip, tmp_path / "model.pth.tar-5", k=2)


def test_weights_of_other_shapes_are_one_sentence(clip: xg.Model, tmp_path: Path) -> None:
    module = clip.text.module
    experts, one = moe_weights(module), torch.tensor(1.0)
    gate, first = "visual.transformer.resblocks.1.gate.weight", "visual.transformer.resblocks.1.experts.0.c_proj.bias"
    pools = {"pseudo_vision_token_pool": drawn(60, 32), "pseudo_language_token_pool": drawn(60, 48)}
    other_shapes = "weights are not of the shapes or names that these have, so it is damaged or of another release"
    files: list[tuple[Weights, str]] = [
        ({"prompt_learner.ctx": one, "prompt_learner.proj.weight": one, "prompt_learner.proj.bias": one}, other_shapes),
        ({**module.state_dict(), "positional_embedding_res": one}, other_shapes),
        ({**pools, "pseudo_vision_token_pool": one}, other_shapes),
        (
            {**pools, "pseudo_vision_token_pool": drawn(60, 32) * torch.inf},
            "text.pool holds numbers that are not finite",
        ),
        ({**experts, gate: one}, other_shapes),
        ({name: tensor for name, tensor in experts.items() if name != gate}, other_shapes),
        ({**experts, first: experts[first] + 1}, "whose first experts are not the MLPs of this model"),
    ]
    for weights, message in files:
        torch.save(weights, tmp_path / "file.pt")
        with pytest.raises(xg.XgapError, match=message) as caught:
            xg.load_adapter(clip, tmp_path / "file.pt", **({"k": 1} if gate in weights or first in weights else {}))
        assert "\n" not in str(caught.value)


def test_experts_of_other_blocks_than_the_last_are_not_put_into_those(clip: xg.Model, tmp_path: Path) -> None:
    module = clip.text.module
    weights, start = moe_weights(module), "visual.transformer.resblocks."
    first = {f"{start}0.{n.removeprefix(f'{start}1.')}": weights.pop(n) for n in list(weights) if f"{start}1." in n}
    own = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(f"{start}0.mlp.")}
    first |= {name.replace(".mlp.", ".experts.0."): tensor for name, tensor in own.items()}
    torch.save({**weights, **first}, tmp_path / "moe.pt")
    with pytest.raises(
        xg.XgapError, match="experts in blocks 0, 2 of 3 of the image tower, and only experts of the last"
    ):
        xg.load_adapter(clip, tmp_path / "moe.pt", k=1)


def test_nothing_of_a_file_is_run(clip: xg.Model, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"

    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    (tmp_path / "evil.pth.tar").write_bytes(pickle.dumps({"state_dict": {"prompt_learner.ctx": Malice()}}, protocol=2))
    with pytest.raises(xg.XgapError, match=r"evil\.pth\.tar cannot be read"):
        xg.load_adapter(clip, tmp_path / "evil.pth.tar")
    assert not trace.exists()


def test_the_base_of_a_clip_moe_file_is_its_first_experts(tmp_path: Path) -> None:
    """Through the loader of Long-CLIP, and its experts into that."""
    make = torch.Generator().manual_seed(0)
    weights = long_clip_weights(lambda *shape: 0.05 * torch.randn(*shape, generator=make))
    for prefix, width in (("visual.transformer.resblocks.1.", 768), ("transformer.resblocks.0.", 128)):
        for name in [n for n in weights if n.startswith(f"{prefix}mlp.")]:
            tensor = weights.pop(name)
            for e in range(2):
                weights[name.replace(".mlp.", f".experts.{e}.")] = tensor * (1 + e)
        weights[f"{prefix}gate.weight"] = drawn(2, width)
    weights["transformer.resblocks.1.gate.weight"] = drawn(2, 128)
    for name in [n for n in weights if n.startswith("transformer.resblocks.1.mlp.")]:
        tensor = weights.pop(name)
        weights |= {name.replace(".mlp.", f".experts.{e}."): tensor for e in range(2)}
    torch.save(weights, tmp_path / "clip_moe.pt")
    with pytest.warns(UserWarning, match="is a CLIP-MoE checkpoint: this is its base, into which load_adapter puts"):
        base = xg.load_model(f"LongCLIP-ViT-B-16/{tmp_path / 'clip_moe.pt'}", device="cpu")
    model = xg.load_adapter(base, tmp_path / "clip_moe.pt", k=2)
    assert str(model.image._own.adapter) == "clip-moe(experts=2, image_blocks=1, text_blocks=2, k=2)"
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert (model.image.encode(pixels) - base.image.encode(pixels)).abs().max() > 1e-4


def long_clip_weights(make: Callable[..., Tensor]) -> Weights:
    """OpenAI's names, of two blocks, with both tables of positions."""
    made = {
        "visual.class_embedding": make(768),
        "visual.positional_embedding": make(5, 768),
        "visual.conv1.weight": make(768, 3, 16, 16),
        "visual.proj": make(768, 16),
        "token_embedding.weight": make(49408, 128),
        "positional_embedding": make(LENGTH, 128),
        "positional_embedding_res": make(LENGTH, 128),
        "text_projection": make(128, 16),
        "logit_scale": torch.tensor(3.5),
    }
    norms = [("visual.ln_pre", 768), ("visual.ln_post", 768), ("ln_final", 128)]
    for prefix, width in (("visual.transformer.resblocks.", 768), ("transformer.resblocks.", 128)):
        for layer in range(2):
            block = f"{prefix}{layer}."
            made |= {
                f"{block}attn.in_proj_weight": make(3 * width, width),
                f"{block}attn.in_proj_bias": make(3 * width),
            }
            for name, shape in (("attn.out_proj", (width, width)), ("mlp.c_fc", (4 * width, width))):
                made |= {f"{block}{name}.weight": make(*shape), f"{block}{name}.bias": make(shape[0])}
            made |= {f"{block}mlp.c_proj.weight": make(width, 4 * width), f"{block}mlp.c_proj.bias": make(width)}
            norms += [(f"{block}ln_1", width), (f"{block}ln_2", width)]
    return made | {f"{n}.{kind}": make(w) + (kind == "weight") for n, w in norms for kind in ("weight", "bias")}
