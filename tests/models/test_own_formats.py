"""SLIP and Long-CLIP from files of their published formats, against their published forward passes written anew."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import load_model
from xgap_analysis.models.backbones import BACKBONES, WEIGHTS_VARIABLE

Weights = dict[str, Tensor]
LAYERS, VOCABULARY, TEXT_WIDTH, DIM = 2, 300, 128, 96
HEADS = {384: 12, 768: 12, 1024: 16}  # of SLIP's image towers, by width
IDS = torch.tensor([[298, 7, 8, 9, 299, *[0] * 12], [298, 9, 12, 11, 10, 299, *[0] * 11]])


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return 0.05 * torch.randn(*shape, generator=generator)


def block(prefix: str, names: tuple[str, ...], width: int, make: Callable[..., Tensor]) -> Weights:
    """Weights of a pre-norm block; names of norm, joint attention weight and bias, output, norm, MLP in and out."""
    norm1, weight, bias, out, norm2, first, second = names
    made = {f"{prefix}{weight}": make(3 * width, width), f"{prefix}{bias}": make(3 * width)}
    for name, shape in ((out, (width, width)), (first, (4 * width, width)), (second, (width, 4 * width))):
        made |= {f"{prefix}{name}.weight": make(*shape), f"{prefix}{name}.bias": make(shape[0])}
    for name in (norm1, norm2):
        made |= {f"{prefix}{name}.weight": 1 + make(width), f"{prefix}{name}.bias": make(width)}
    return made


OPENAI = ("ln_1", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
TIMM = ("norm1", "attn.qkv.weight", "attn.qkv.bias", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def text_weights(make: Callable[..., Tensor], length: int) -> Weights:
    made = {
        "token_embedding.weight": make(VOCABULARY, TEXT_WIDTH),
        "positional_embedding": make(length, TEXT_WIDTH),
        "ln_final.weight": 1 + make(TEXT_WIDTH),
        "ln_final.bias": make(TEXT_WIDTH),
        "text_projection": make(TEXT_WIDTH, DIM),
        "logit_scale": torch.tensor(3.5),
    }
    for layer in range(LAYERS):
        made |= block(f"transformer.resblocks.{layer}.", OPENAI, TEXT_WIDTH, make)
    return made


def slip_weights(width: int, self_supervised: bool) -> Weights:
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int) -> Tensor:
        return normal(generator, *shape)

    made = {
        "visual.cls_token": make(1, 1, width),
        "visual.pos_embed": make(1, 197, width),
        "visual.patch_embed.proj.weight": make(width, 3, 16, 16),
        "visual.patch_embed.proj.bias": make(width),
        "visual.norm.weight": 1 + make(width),
        "visual.norm.bias": make(width),
        "image_projection": make(width, DIM),
    }
    for layer in range(LAYERS):
        made |= block(f"visual.blocks.{layer}.", TIMM, width, make)
    if self_supervised:
        made |= {"image_mlp.layer1.weight": make(8, width), "image_mlp.bn1.running_mean": make(8)}
        made |= {"image_mlp.bn1.num_batches_tracked": torch.tensor(7)}
    return {**made, **text_weights(make, IDS.shape[1])}


def longclip_weights(length: int = 24) -> Weights:
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int) -> Tensor:
        return normal(generator, *shape)

    made = {
        "visual.class_embedding": make(768),
        "visual.positional_embedding": make(1 + 4, 768),
        "visual.conv1.weight": make(768, 3, 16, 16),
        "visual.proj": make(768, DIM),
    }
    for norm in ("visual.ln_pre", "visual.ln_post"):
        made |= {f"{norm}.weight": 1 + make(768), f"{norm}.bias": make(768)}
    for layer in range(LAYERS):
        made |= block(f"visual.transformer.resblocks.{layer}.", OPENAI, 768, make)
    return {**made, **text_weights(make, length), "positional_embedding_res": make(length, TEXT_WIDTH)}


def blocks(
    weights: Weights,
    prefix: str,
    names: tuple[str, ...],
    x: Tensor,
    heads: int,
    act: Callable[[Tensor], Tensor],
    eps: float,
    causal: bool = False,
) -> Tensor:
    """The published transformer: attention and an MLP, each after a norm and added to its input."""
    norm1, weight, bias, out, norm2, first, second = names
    for layer in range(LAYERS):
        own = {
            name.removeprefix(f"{prefix}{layer}."): t
            for name, t in weights.items()
            if name.startswith(f"{prefix}{layer}.")
        }

        def linear(name: str, of: Tensor, own: Weights = own) -> Tensor:
            return of @ own[f"{name}.weight"].T + own[f"{name}.bias"]

        def normed(name: str, of: Tensor, own: Weights = own) -> Tensor:
            return F.layer_norm(of, of.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"], eps)

        joint = normed(norm1, x) @ own[weight].T + own[bias]
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in joint.chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
        x = x + linear(out, (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + linear(second, act(linear(first, normed(norm2, x))))
    return x


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def slip_image(weights: Weights, pixels: Tensor) -> Tensor:
    x = F.conv2d(pixels, weights["visual.patch_embed.proj.weight"], weights["visual.patch_embed.proj.bias"], stride=16)
    x = torch.cat([weights["visual.cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    width = x.shape[-1]
    x = blocks(weights, "visual.blocks.", TIMM, x + weights["visual.pos_embed"], HEADS[width], F.gelu, 1e-6)
    x = F.layer_norm(x, (width,), weights["visual.norm.weight"], weights["visual.norm.bias"], 1e-6)
    return x[:, 0] @ weights["image_projection"]


def openai_image(weights: Weights, pixels: Tensor) -> Tensor:
    def normed(name: str, of: Tensor) -> Tensor:
        return F.layer_norm(of, of.shape[-1:], weights[f"visual.{name}.weight"], weights[f"visual.{name}.bias"])

    x = F.conv2d(pixels, weights["visual.conv1.weight"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([weights["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = normed("ln_pre", x + weights["visual.positional_embedding"])
    x = blocks(weights, "visual.transformer.resblocks.", OPENAI, x, 12, quick_gelu, 1e-5)
    return normed("ln_post", x[:, 0]) @ weights["visual.proj"]


def text(weights: Weights, positions: Tensor, ids: Tensor) -> Tensor:
    x = weights["token_embedding.weight"][ids] + positions
    x = blocks(weights, "transformer.resblocks.", OPENAI, x, TEXT_WIDTH // 64, quick_gelu, 1e-5, causal=True)
    x = F.layer_norm(x, x.shape[-1:], weights["ln_final.weight"], weights["ln_final.bias"])
    return x[torch.arange(len(ids)), ids.argmax(dim=1)] @ weights["text_projection"]


def save_slip(path: Path, weights: Weights, model: str, **more: Any) -> Path:
    """As facebookresearch/SLIP writes it: a training state of data-parallel training."""
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 3e-3, "params": [0]}]}
    state = {
        "epoch": 100,
        "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()},
        "optimizer": optimizer,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "best_acc1": 42.5,
        "args": argparse.Namespace(model=model, ssl_mlp_dim=4096, ssl_emb_dim=256, betas=(0.9, 0.98), gpu=None),
    }
    torch.save({**state, **more}, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "width"), [("SLIP-ViT-B-16", 768), ("SLIP-ViT-S-16", 384), ("CLIP-ViT-L-16", 1024)]
)
def test_slip_gives_the_published_features(
    architecture: str, width: int, tmp_path: Path, laws: Callable[..., None], own_model: Any
) -> None:
    weights = slip_weights(width, "SLIP" in architecture)
    path = save_slip(tmp_path / "checkpoint.pt", weights, architecture.replace("-", "_"))
    model = load_model(f"{architecture}/{path}", device="cpu")
    patching = SimpleNamespace(
        weight=weights["visual.patch_embed.proj.weight"], bias=weights["visual.patch_embed.proj.bias"]
    )
    own = own_model(
        lambda pixels: slip_image(weights, pixels),
        lambda ids: text(weights, weights["positional_embedding"], ids),
        patching,
        weights["token_embedding.weight"],
    )
    laws(model, own, (224, 224), IDS)
    assert model.text.shortcut(IDS[0], 1, 2) is not None
    assert model.logit_scale == pytest.approx(torch.tensor(3.5).exp().item())
    assert model.activation == "quickgelu"
    torch.testing.assert_close(model.image.projection, weights["image_projection"])


def test_slip_images_are_prepared_as_published(tmp_path: Path) -> None:
    from torchvision import transforms

    path = save_slip(tmp_path / "c.pt", slip_weights(384, True), "SLIP_VITS16")
    model = load_model(f"SLIP-ViT-S-16/{path}", device="cpu")
    drawing = Image.effect_noise((300, 260), 80).convert("RGB").rotate(20)
    published = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    assert torch.equal(model.preprocess(drawing), published(drawing))


def test_long_clip_gives_the_published_features(tmp_path: Path, laws: Callable[..., None], own_model: Any) -> None:
    weights = longclip_weights()
    path = tmp_path / "longclip-B.pt"
    torch.save(weights, path)
    model = load_model(f"LongCLIP-ViT-B-16/{path}", device="cpu")
    ids = torch.zeros(2, 24, dtype=torch.long)
    ids[0, :23] = torch.tensor([298, *range(5, 26), 299])  # its end lies on the stretched positions
    ids[1, :5] = torch.tensor([298, 9, 7, 11, 299])
    kept = (torch.arange(24) < 20)[:, None]  # as published: one mask for each table
    positions = weights["positional_embedding"] * kept + weights["positional_embedding_res"] * ~kept
    patching = SimpleNamespace(weight=weights["visual.conv1.weight"], bias=None)
    table = weights["token_embedding.weight"]
    own = own_model(
        lambda pixels: openai_image(weights, pixels), lambda i: text(weights, positions, i), patching, table
    )
    laws(model, own, (32, 32), ids)
    assert model.text.length == 24
    assert model.tokenize.silent(["a photo"]).shape == (1, 24)
    assert model.settings == {"oti_tokens": 1}


def test_long_captions_keep_their_end_token(tmp_path: Path) -> None:
    path = save_slip(tmp_path / "c.pt", slip_weights(384, True), "SLIP_VITS16")
    ids = load_model(f"SLIP-ViT-S-16/{path}", device="cpu").tokenize.silent(["a photo of cats " * 30])
    assert ids.shape == IDS[:1].shape
    assert ids[0, -1] == 49407


def test_files_of_the_published_names_are_found_in_the_folder_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    for backbone in (b for b in BACKBONES if b.file):
        with pytest.raises(XgapError, match=f"{backbone.file}.*{WEIGHTS_VARIABLE}"):
            load_model(backbone.name)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(XgapError, match="slip_base_100ep"):
        load_model("SLIP-ViT-B-16/yfcc15m")
    path = save_slip(tmp_path / "slip_base_100ep.pt", slip_weights(768, True), "SLIP_VITB16")
    by_name = load_model("SLIP-ViT-B-16/yfcc15m", device="cpu")
    assert by_name.weights_digest == load_model(f"SLIP-ViT-B-16/{path}", device="cpu").weights_digest
    assert by_name.settings == {"oti_tokens": 1, "ovi_tokens": 1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SLIP-ViT-B-16", "slip_base_100ep.pt of facebookresearch/SLIP"),
        ("SLIP-ViT-B-16/yfcc", "unknown weights of SLIP-ViT-B-16 'yfcc'; nearest names: yfcc15m"),
        ("SLIP-ViT-S-16/yfcc15m", "facebookresearch/SLIP"),
        ("SLIP-ViT-B-16//nowhere/slip.pt", "no checkpoint /nowhere/slip.pt"),
        ("SLIP-ViT-B-17/yfcc15m", "unknown model.*SLIP-ViT-B-16/yfcc15m"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(XgapError, match=message):
        load_model(name)


def test_a_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    import open_clip

    slip = save_slip(tmp_path / "slip.pt", slip_weights(384, True), "SLIP_VITS16")
    simclr = {n: t for n, t in slip_weights(384, True).items() if n.startswith(("visual.", "image_mlp."))}
    torch.save(simclr, tmp_path / "simclr.pt")
    torch.save(longclip_weights(), tmp_path / "long.pt")
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "empty.pt")
    wrong = {
        f"CLIP-ViT-S-16/{slip}": f"holds a SLIP-ViT-S-16, not a CLIP-ViT-S-16; name it SLIP-ViT-S-16/{slip}",
        f"SLIP-ViT-B-16/{slip}": "holds a SLIP-ViT-S-16",
        f"SLIP-ViT-S-16/{tmp_path}/simclr.pt": "SimCLR model, which has no text tower",
        f"SLIP-ViT-B-16/{tmp_path}/long.pt": "is no SLIP checkpoint",
        f"SLIP-ViT-B-16/{tmp_path}/empty.pt": "no state dict",
        f"LongCLIP-ViT-B-16/{slip}": "is no Long-CLIP checkpoint",
        f"LongCLIP-ViT-L-14/{tmp_path}/long.pt": "width 768 and patches of 16 pixels, not LongCLIP-ViT-L-14",
    }
    for name, message in wrong.items():
        with pytest.raises(XgapError, match=message):
            load_model(name)
    with pytest.raises(XgapError, match="a SLIP checkpoint, to be named SLIP-ViT-B-16//"):
        load_model(f"ViT-S-32-alt/{slip}", activation="quickgelu")
    stretched = torch.nn.Embedding(248, 256).weight.detach()
    weights = {**open_clip.create_model("ViT-S-32-alt").state_dict(), "positional_embedding": stretched}
    torch.save({**weights, "positional_embedding_res": stretched}, tmp_path / "plain.pt")
    with pytest.raises(XgapError, match="is a Long-CLIP file, to be named LongCLIP-ViT-B-16//"):
        load_model(f"ViT-S-32-alt/{tmp_path}/plain.pt", activation="quickgelu")
    with pytest.raises(XgapError, match="is built with quickgelu; gelu would change"):
        load_model(f"SLIP-ViT-S-16/{slip}", activation="gelu")


def test_an_archive_of_code_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt", "w") as archive:  # the layout of OpenAI's files
        for name in ("data.pkl", "constants.pkl", "code/__torch__/model.py", "version"):
            archive.writestr(f"ViT-B-32/{name}", b"")
    for name in ("ViT-B-32", "SLIP-ViT-B-16"):
        with pytest.raises(XgapError, match=r"TorchScript archive.*by name"):
            load_model(f"{name}/{tmp_path}/ViT-B-32.pt", activation="quickgelu")


class Malice:
    """What a hostile file would have run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.target),)

    def __init__(self, target: Path) -> None:
        self.target = str(target)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    weights = slip_weights(384, True)
    path = save_slip(tmp_path / "c.pt", weights, "SLIP_VITS16", best_acc1=Malice(trace))
    with pytest.raises(XgapError, match="cannot be loaded"):
        load_model(f"SLIP-ViT-S-16/{path}")
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Malice(trace)))
    with pytest.raises(XgapError, match="cannot be loaded"):
        load_model(f"SLIP-ViT-S-16/{tmp_path}/p.pt")
    assert not trace.exists()


@pytest.mark.parametrize("cut", [0, 100, 0.5])
def test_a_damaged_file_is_reported_in_one_sentence(cut: float, tmp_path: Path) -> None:
    path = save_slip(tmp_path / "c.pt", slip_weights(384, True), "SLIP_VITS16")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole)) if cut < 1 else int(cut)])
    with pytest.raises(XgapError, match="cannot be loaded") as told:
        load_model(f"SLIP-ViT-S-16/{path}")
    assert "\n" not in str(told.value)
