"""Half-precision weights: near the features in float32, the model's own as they were; TF32 only if it is set."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from xgap_analysis.models import Model
from xgap_analysis.models.adapters.halves import with_half_weights
from xgap_analysis.models.adapters.openclip import ImageTower, TextTower, autocast
from xgap_analysis.models.fingerprint import weights_digest
from xgap_analysis.models.precision import full_precision, rounding, tf32, without_tf32
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.inversion.settings import Settings

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def lowest(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=-1).min())


@pytest.mark.parametrize("precision", HALVES)
def test_features_in_half_precision_are_near_those_in_float32(
    kind: str, precision: str, make_model: Callable[..., Model], pixels: Tensor, captions: list[str]
) -> None:
    exact, rough = make_model(kind), make_model(kind, precision=precision)
    before = weights_digest(rough.image.module)
    ids = exact.tokenize(captions)
    with torch.inference_mode():
        pairs = [(model.image.encode(pixels), model.text.encode(ids)) for model in (exact, rough)]
        tokens = [model.image.encode_tokens(model.image.embed(pixels)) for model in (exact, rough)]
        with full_precision():
            assert_close(rough.image.encode(pixels), pairs[0][0])
    for one, other in (*zip(*pairs, strict=True), tokens):
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        assert lowest(one, other) > 0.999
    assert weights_digest(rough.image.module) == before  # dtypes are in it
    assert rough.image._over_halves.module is rough.text._over_halves.module  # one copy for both towers


def test_products_alone_are_half_and_all_else_is_the_models_own(make_model: Callable[..., Model]) -> None:
    module = make_model("native").image.module
    half = with_half_weights(module, "bf16")
    assert with_half_weights(module, "bf16") is half
    assert with_half_weights(module, "fp32") is module
    own = dict(module.named_parameters())
    products = {name for name, one in half.named_parameters() if one.dtype == torch.bfloat16}
    assert {name for name in own if ".mlp." in name or "in_proj" in name or "out_proj" in name} < products
    assert "visual.conv1.weight" in products
    assert {"logit_scale", "positional_embedding", "token_embedding.weight", "ln_final.weight"}.isdisjoint(products)
    for name, one in half.named_parameters():
        assert not one.requires_grad
        assert (one.data_ptr() == own[name].data_ptr()) is (name not in products)


def test_a_table_that_is_a_head_too_stays_as_it_is() -> None:
    table, head, last = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False), nn.Linear(3, 3)
    head.weight = table.weight
    half = with_half_weights(nn.Sequential(table, head, last), "fp16")
    assert [half[0].weight.dtype, half[1].weight.dtype, half[2].weight.dtype] == [torch.float32] * 2 + [torch.float16]
    assert half[1].weight is half[0].weight


def test_images_are_as_near_to_float32_as_under_autocast(make_model: Callable[..., Model], pixels: Tensor) -> None:
    exact, rough = make_model("native"), make_model("native", precision="bf16")
    with torch.inference_mode(), autocast(torch.device("cpu"), "bf16"):
        cast = rough.image.module.encode_image(pixels).float()
    with torch.inference_mode():
        wanted, made = exact.image.encode(pixels), rough.image.encode(pixels)
    assert lowest(made, cast) > 0.999
    assert (made - wanted).norm() < 2 * (cast - wanted).norm()


def test_every_way_through_a_tower_takes_the_copy(
    make_model: Callable[..., Model], pixels: Tensor, captions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, rough = make_model("native"), make_model("native", precision="bf16")
    ids = exact.tokenize(captions)
    ways = [
        lambda m: m.image.encode(pixels, project=False),
        lambda m: m.image.encode(pixels, layer=1),
        lambda m: m.image.hidden(pixels)[0],
        lambda m: m.text.encode(ids, project=False),
        lambda m: m.text.encode(ids, layer=1),
        lambda m: m.text.hidden(ids)[0],
        lambda m: m.text.encode_tokens(m.text.embed(ids), ids),
        lambda m: m.text.shortcut(ids[0], 1, 1)(torch.full((2, 1, m.text.width), 0.1)),
    ]
    with torch.inference_mode():
        expected = [way(exact) for way in ways]
        _ = rough.image._over_halves, rough.text._over_halves
        for part in ("encode_image", "encode_text", "visual"):  # a pass through the model's own weights would fail
            monkeypatch.setattr(rough.image.module, part, None)
        for way, wanted in zip(ways, expected, strict=True):
            assert lowest(way(rough), wanted) > 0.999


def test_gradients_reach_tokens_through_half_weights(make_model: Callable[..., Model], pixels: Tensor) -> None:
    grads = []
    for model in (make_model("native"), make_model("native", precision="bf16")):
        tokens = model.image.embed(pixels).detach().requires_grad_()
        F.normalize(model.image.encode_tokens(tokens), dim=1)[:, 0].sum().backward()
        assert tokens.grad is not None
        grads.append(tokens.grad.flatten(1))
    assert lowest(*grads) > 0.98


def test_a_tower_whose_parts_are_replaced_around_a_pass_takes_its_own_weights(
    make_model: Callable[..., Model], captions: list[str]
) -> None:
    model = make_model("native", precision="bf16")
    for again in (model.image.again(True), model.text.again(True, model.tokenize.silent)):
        assert isinstance(again, ImageTower | TextTower)
        assert again._passing is again


@pytest.fixture
def torch_settings() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


@pytest.mark.usefixtures("torch_settings")
def test_tf32_is_off_unless_it_is_set() -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's own default
    gpu = torch.device("cuda")
    assert not tf32()
    with without_tf32(gpu):
        assert not torch.backends.cudnn.allow_tf32
        with without_tf32(gpu):
            pass
        assert not torch.backends.cudnn.allow_tf32  # another block is open
    assert torch.backends.cudnn.allow_tf32
    with without_tf32(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    assert tf32()
    with without_tf32(gpu):
        assert torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has the older names alone")
@pytest.mark.parametrize("how", ["fp32_precision", "cudnn.conv.fp32_precision"])
def test_tf32_is_read_and_kept_under_torchs_newer_names(how: str) -> None:
    code = f"""
import torch
from xgap_analysis.models.precision import tf32, without_tf32
cudnn = torch.backends.cudnn
torch.backends.{how} = "tf32" if "conv" not in {how!r} else "ieee"
before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
with without_tf32(torch.device("cuda")):
    print(tf32(), cudnn.conv.fp32_precision)
assert before == (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # torch forgets none
    assert ended.stdout.split() == (["False", "ieee"] if "conv" in how else ["True", "tf32"])


@pytest.mark.usefixtures("torch_settings")
def test_rows_of_another_rounding_have_a_key_of_their_own(
    make_model: Callable[..., Model], pixels: Tensor, captions: list[str]
) -> None:
    exact, rough = make_model("native"), make_model("native", precision="bf16")
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert rounding(exact.image, cpu) == rounding(exact.text, gpu) == {}
    assert rounding(rough.image, cpu) == rounding(rough.text, cpu) == {"half_weights": True}
    assert rounding(rough.image.again(True), cpu) == {}
    texts = encode(rough, captions, store=None, progress=False)
    made = [texts, invert(rough, texts, steps=1, store=None, progress=False)]
    assert [one.provenance["half_weights"] for one in made] == [True, True]
    assert "half_weights" not in encode(exact, captions, store=None, progress=False).provenance
    torch.set_float32_matmul_precision("high")
    assert rounding(exact.image, gpu) == {"tf32": True}
    assert rounding(exact.image, cpu) == {}


@pytest.mark.usefixtures("torch_settings")
def test_an_inversion_under_tf32_is_not_that_in_float32(make_model: Callable[..., Model], captions: list[str]) -> None:
    model = make_model("native")
    how: dict[str, Any] = {
        "snapshots": (),
        "stop": "fixed",
        "template": "a {}",
        "lr": 0.02,
        "weight_decay": 0.0,
        "init_std": 0.02,
    }
    how |= {"seed": 1, "start": "normal", "optimiser": "adamw", "batch_size": None, "precision": "fp32", "tokens": 1}
    settings = Settings.of(model, encode(model, captions, store=None, progress=False), steps=1, **how)
    there: Any = SimpleNamespace(fingerprint="0", precision="fp32", device=torch.device("cuda"))
    plain = settings.made_by(there, model.image, None)
    torch.set_float32_matmul_precision("high")
    assert settings.made_by(there, model.image, None) == {**plain, "tf32": True}
    there.device = torch.device("cpu")
    assert settings.made_by(there, model.image, None) == plain
