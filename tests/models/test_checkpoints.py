"""Checkpoints as people have them: wrapped, in half precision, at another size, half fetched, in a place from here."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.models import load_model
from xgap_analysis.models.checkpoint import state_dict

WEIGHTS = "open_clip_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n".format("0" * 64)
ARCHITECTURE = "ViT-S-32-alt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(data_root() / "models" / "tiny", copy)
    return copy


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small architecture of open_clip's, in a folder of their own."""
    import open_clip

    path = tmp_path_factory.mktemp("file") / "weights" / "mine.safetensors"
    path.parent.mkdir()
    torch.manual_seed(0)
    save_file({k: v.contiguous() for k, v in open_clip.create_model(ARCHITECTURE).state_dict().items()}, path)
    return path


def renamed(folder: Path, prefix: str) -> None:
    save_file({f"{prefix}{k}": v for k, v in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.", "module._fsdp_wrapped_module."]
)
def test_weights_of_a_wrapped_model_are_those_of_the_model(prefix: str, folder: Path) -> None:
    renamed(folder, prefix)
    assert load_model(folder, device="cpu").weights_digest == load_model("tiny", device="cpu").weights_digest


def test_names_of_parts_that_were_compiled_alone_are_plain() -> None:
    weight = torch.ones(1)
    wrapped = {"visual._orig_mod.conv1.weight": weight, "transformer.resblocks.0._checkpoint_wrapped_module.x": weight}
    wrapped |= {"my_orig_mod.x": weight, "text.module.x": weight}  # a part may have such a name of its own
    expected = {"visual.conv1.weight", "transformer.resblocks.0.x", "my_orig_mod.x", "text.module.x"}
    assert set(state_dict(wrapped, Path("w.pt"))) == expected
    with pytest.raises(XgapError, match="two weights 'x'"):
        state_dict({"x": weight, "module.x": weight}, Path("w.pt"))
    for container in ("state_dict", "model", "model_state_dict"):
        assert set(state_dict({container: {"module.x": weight}, "epoch": 3}, Path("w.pt"))) == {"x"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("size", "length"), [(96, 16), (64, 24), (32, 8)])
def test_positions_are_resized_in_float32_whatever_the_weights(
    dtype: torch.dtype, size: int, length: int, folder: Path
) -> None:
    import open_clip

    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = size
    config["model_cfg"]["text_cfg"]["context_length"] = length
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {k: v.to(dtype) for k, v in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    with pytest.warns(UserWarning, match="position embeddings were resized"):
        model = load_model(folder, device="cpu")
    save_file({k: v.float() for k, v in weights.items()}, folder / WEIGHTS)
    bare = open_clip.create_model(f"local-dir:{folder}").eval()
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids = open_clip.get_tokenizer(f"local-dir:{folder}")(["a photo of a cat", "dog"])
    with torch.no_grad():
        torch.testing.assert_close(model.image.encode(pixels), bare.encode_image(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.text.encode(ids), bare.encode_text(ids), atol=1e-5, rtol=1e-5)


def test_a_path_after_two_slashes_is_from_the_root_or_from_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent.parent)
    names = [f"{ARCHITECTURE}-gelu//{file}", f"{ARCHITECTURE}-gelu/{file}"]
    names += [f"{ARCHITECTURE}-gelu//{place}weights/mine.safetensors" for place in ("", "./", "weights/../")]
    digests = {load_model(name, device="cpu").weights_digest for name in names}
    assert len(digests) == 1
    with pytest.raises(XgapError, match=f"after two slashes: {ARCHITECTURE}//weights/mine.safetensors"):
        load_model(f"{ARCHITECTURE}/weights/mine.safetensors")
    with pytest.raises(XgapError, match="no checkpoint"):
        load_model(f"{ARCHITECTURE}-gelu//weights/other.safetensors")


def test_a_path_that_fits_two_files_is_not_guessed(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / str(file).lstrip("/")
    inside.parent.mkdir(parents=True)
    shutil.copy(file, inside)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(XgapError, match="there are two files"):
        load_model(f"{ARCHITECTURE}-gelu/{file}")
    assert load_model(f"{ARCHITECTURE}-gelu//{file}", device="cpu").activation == "gelu"


def test_the_activation_stands_in_the_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(XgapError, match=rf"name it {ARCHITECTURE}-quickgelu//.* or {ARCHITECTURE}-gelu//"):
        load_model(f"{ARCHITECTURE}/{file}")
    for activation in ("gelu", "quickgelu"):
        assert load_model(f"{ARCHITECTURE}-{activation}/{file}", device="cpu").activation == activation
    with pytest.raises(XgapError, match="say it once"):
        load_model(f"{ARCHITECTURE}-gelu/{file}", activation="quickgelu")


def test_the_command_line_says_the_activation_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xgap_analysis.cli import main

    assert main(["encode", "--model", f"{ARCHITECTURE}/{file}", "--limit", "1"]) == 2
    assert "--activation" in capsys.readouterr().err
    assert main(["encode", "--model", f"{ARCHITECTURE}/{file}", "--limit", "1", "--activation", "gelu"]) == 0
    assert main(["encode", "--model", f"{ARCHITECTURE}-gelu/{file}", "--limit", "1"]) == 0


@pytest.mark.parametrize("name", ["open_clip_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_reported(name: str, folder: Path) -> None:
    (folder / name).write_text(POINTER)
    with pytest.raises(XgapError, match=f"{name} is a Git LFS pointer.*git lfs pull") as told:
        load_model(folder)
    assert "\n" not in str(told.value)


def test_a_pointer_in_place_of_a_named_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text(POINTER)
    for name in ("ViT-B-32-gelu", "SLIP-ViT-B-16", "timm:vit_tiny_patch16_224"):
        with pytest.raises(XgapError, match="Git LFS pointer"):
            load_model(f"{name}/{tmp_path}/w.pt")


def test_a_folder_without_its_tokenizer_is_reported(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(XgapError, match=r"holds no tokenizer .*'tokenizer', which its .* names") as told:
        load_model(folder)
    assert "\n" not in str(told.value)


def test_an_image_tower_alone_is_an_image_model(folder: Path) -> None:
    whole = load_file(folder / WEIGHTS)
    image: dict[str, Tensor] = {k: v for k, v in whole.items() if k.startswith("visual.")}
    save_file(image, folder / WEIGHTS)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = load_model("tiny", device="cpu").image.encode(pixels)
    for path in (None, folder / "tokenizer.json"):
        if path is not None:
            path.unlink()
        model = load_model(folder, device="cpu")
        torch.testing.assert_close(model.image.encode(pixels), expected)
        with pytest.raises(XgapError, match="has no text tower"):
            model.tokenize(["a"])
    save_file({k: v for k, v in whole.items() if not k.startswith("visual.")}, folder / WEIGHTS)
    shutil.copy(data_root() / "models" / "tiny" / "tokenizer.json", folder)
    with pytest.raises(XgapError, match="text tower alone"):
        load_model(folder)


def test_several_checkpoints_are_counted(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / "epoch_2.safetensors")
    (folder / WEIGHTS).rename(folder / "epoch_1.safetensors")
    with pytest.warns(UserWarning, match=r"2 checkpoints \(.*\); epoch_1.safetensors is read"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpu:first", "nonsense"])
def test_an_unknown_device_is_reported(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    from xgap_analysis.cli import main
    from xgap_analysis.models.trainable import load_trainable

    for load in (load_model, load_trainable):
        with pytest.raises(XgapError, match=f"there is no device '{device}' on this machine; it has cpu"):
            load("tiny", device=device)
    assert main(["encode", "--device", device, "--limit", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no device '{device}'" in line
