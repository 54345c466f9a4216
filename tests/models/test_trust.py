"""A checkpoint is data: nothing in its folder is run, and its configuration says only what is on the list."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.models import load_model
from xgap_analysis.models.configuration import checked_open_clip, plain_text_model

Changed = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the smallest embedded model, with modules beside it that leave a mark when they are imported."""
    copy = tmp_path / "model"
    shutil.copytree(data_root() / "models" / "tiny", copy)
    mark = f"from pathlib import Path\nPath({str(tmp_path / 'it-ran')!r}).touch()\n"
    for name, classes in {
        "evil": "from transformers import PreTrainedTokenizerFast\nclass Evil(PreTrainedTokenizerFast): pass\n",
        "evil_config": "from transformers import PretrainedConfig\n"
        "class EvilConfig(PretrainedConfig):\n    model_type = 'evil'\n",
    }.items():
        (copy / f"{name}.py").write_text(mark + classes)
    return copy


def edit(file: Path, change: Callable[[Changed], object]) -> None:
    said = json.loads(file.read_text()) if file.is_file() else {}
    change(said)
    file.write_text(json.dumps(said))


def with_own_tokenizer(folder: Path) -> None:
    own = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    edit(folder / "tokenizer_config.json", lambda said: said.update(own))
    own_config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil_config.EvilConfig"}}
    edit(folder / "config.json", lambda said: said.update(own_config))


def test_code_beside_the_weights_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_own_tokenizer(folder)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask a person
    with pytest.raises(XgapError, match="cannot be loaded") as told:
        load_model(folder, device="cpu")
    assert "\n" not in str(told.value)
    text = {"tokenizer_kwargs": {"trust_remote_code": True}}
    edit(folder / "open_clip_config.json", lambda said: said["model_cfg"]["text_cfg"].update(text))
    with pytest.raises(XgapError, match=r"tokenizer_kwargs says 'trust_remote_code'.*no code of a checkpoint is run"):
        load_model(folder, device="cpu")
    assert not (folder.parent / "it-ran").exists()


def test_a_text_tower_of_transformers_runs_no_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_own_tokenizer(folder)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    edit(folder / "open_clip_config.json", lambda said: said["model_cfg"]["text_cfg"].update(hf_model_name=str(folder)))
    for file in folder.glob("tokenizer*"):
        shutil.copy(data_root() / "models" / "tiny" / file.name, file)
    edit(folder / "config.json", lambda said: said.update(model_type="evil"))
    with pytest.raises(XgapError, match="model_type 'evil', not one of roberta"):
        load_model(folder, device="cpu")
    assert not (folder.parent / "it-ran").exists()


def test_a_transformers_directory_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CLIPConfig, CLIPModel

    monkeypatch.setattr("builtins.input", lambda *_: "y")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**size, "image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config={**size, "vocab_size": 3000}, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path / "model")
    folder = tmp_path / "model"
    mark = f"from pathlib import Path\nPath({str(tmp_path / 'it-ran')!r}).touch()\n"
    (folder / "evil.py").write_text(f"{mark}class Evil: pass\n")
    shutil.copy(data_root() / "models" / "tiny" / "tokenizer.json", folder)
    image = {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    with pytest.raises(XgapError, match="cannot be loaded"):
        load_model(folder, device="cpu")
    assert not (tmp_path / "it-ran").exists()


def changed(part: str, **entries: Any) -> Callable[[Changed], object]:
    def change(said: Changed) -> None:
        place = said["model_cfg"]
        for name in filter(None, part.split(".")):
            place = place.setdefault(name, {})
        place.update(entries)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("text_cfg.tokenizer_kwargs", bpe_path="/etc/passwd"), "'bpe_path', which is none of clean"),
        (changed("text_cfg.tokenizer_kwargs", use_fast=True), "'use_fast'"),
        (changed("text_cfg.norm_kwargs", device="cuda"), "norm_kwargs says 'device'"),
        (changed("text_cfg", module="os"), "text_cfg says 'module'"),
        (changed("vision_cfg", timm_model_name="hf-hub:someone/else"), "name of an architecture of timm's"),
        (changed("vision_cfg", timm_model_name="local-dir:/tmp"), "name of an architecture of timm's"),
        (changed("vision_cfg", image_size="64"), "image_size is '64', not a number or a list of numbers"),
        (changed("vision_cfg", width=True), "width is 'True', not a number"),
        (changed("", cast_dtype="half"), "model_cfg says 'cast_dtype'"),
        (changed("", vision_cfg=None), "vision_cfg"),
        (lambda said: said["model_cfg"].pop("text_cfg"), "not an open_clip configuration"),
        (lambda said: said.pop("model_cfg"), "not an open_clip configuration"),
        (lambda said: said.update(preprocess_cfg={"mean": "grey"}), "mean is 'grey'"),
        (lambda said: said.update(xgap_analysis={"ovi_tokens": "two"}), "ovi_tokens is 'two', not a number"),
        (lambda said: said.update(xgap_analysis={"hook": "x"}), "xgap_analysis says 'hook'"),
    ],
)
def test_what_a_configuration_may_not_say(change: Callable[[Changed], object], message: str, folder: Path) -> None:
    edit(folder / "open_clip_config.json", change)
    with pytest.raises(XgapError, match=message) as told:
        load_model(folder, device="cpu")
    assert "\n" not in str(told.value)


def test_every_configuration_of_open_clips_own_may_be_said() -> None:
    import open_clip

    for name in open_clip.list_models():
        said = open_clip.get_model_config(name)
        assert checked_open_clip({"model_cfg": said}, name) == (said, {})


def test_a_plain_refusal_of_remote_code_is_no_mistake(folder: Path) -> None:
    edit(folder / "open_clip_config.json", changed("text_cfg.tokenizer_kwargs", trust_remote_code=False, clean="lower"))
    assert load_model(folder, device="cpu").tokenize(["a"]).shape == (1, 16)


def test_sizes_alone_are_taken_from_a_text_models_configuration() -> None:
    said = {"model_type": "bert", "hidden_size": 32, "hidden_act": "gelu", "auto_map": {"AutoModel": "evil.Evil"}}
    said |= {"attn_implementation": "someone/kernel", "trust_remote_code": True, "layer_norm_eps": 1e-6}
    kept = {"model_type": "bert", "hidden_size": 32, "hidden_act": "gelu", "layer_norm_eps": 1e-6}
    assert plain_text_model(said, "here") == kept


def test_a_timm_configuration_says_no_more_than_its_class_takes(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    bare = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    save_file({k: v.contiguous() for k, v in bare.state_dict().items()}, tmp_path / "model.safetensors")
    data = {"input_size": [3, 224, 224], "num_classes": 0, "file": "/etc/passwd", "url": "http://example.org/x.pth"}
    said = {"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1}, "pretrained_cfg": data}
    (tmp_path / "config.json").write_text(json.dumps({**said, "pretrained_cfg": {**data, "custom_load": True}}))
    assert load_model(tmp_path, device="cpu").image.length == 196  # where it says weights are takes no part
    for arguments in ({"checkpoint_path": "/x.pth"}, {"pretrained_strict": False}, {"depth": {"a": 1}}):
        (tmp_path / "config.json").write_text(json.dumps({**said, "model_args": arguments}))
        with pytest.raises(XgapError, match="no plain argument of vit_tiny_patch16_224"):
            load_model(tmp_path, device="cpu")
