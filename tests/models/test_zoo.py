import json
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import embedded_models, load_model

UNREACHABLE = [
    "hf-hub:org/repo",
    "hf-hub:timm/ViT-B-16-SigLIP2",
    "ViT-B-32/openai",
    "ViT-B-16-SigLIP/random",
    "ViT-B-16-SigLIP2/webli",
    "PE-Core-B-16/meta",
    "RN50/cc12m",
    "roberta-ViT-B-32/laion2b_s12b_b32k",
    "timm:vit_base_patch14_dinov2.lvd142m",
    "timm:vit_base_patch16_dinov3.lvd1689m",
]
CAPTIONS = ["a photo of cat", "a dog", "", "the quick brown fox jumps over the lazy dog again and again"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip local directory with a small model and a tokenizer of its own."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    path = tmp_path_factory.mktemp("model")
    own = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=80, special_tokens=["<pad>", "<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    own.train_from_iterator(CAPTIONS, trainer)
    own.add_special_tokens(["<start>", "<end>"])
    ends = [(name, own.token_to_id(name)) for name in ("<start>", "<end>")]
    own.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    own.save(str(path / "tokenizer.json"))
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        "text_cfg": {
            "context_length": 10,
            "vocab_size": own.get_vocab_size(),
            "width": 16,
            "heads": 2,
            "layers": 1,
            "hf_tokenizer_name": "own",
        },
    }
    whole = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (path / "open_clip_config.json").write_text(json.dumps(whole | {"xgap_analysis": {"ovi_tokens": 2}}))
    torch.manual_seed(0)
    save_file({k: v.contiguous() for k, v in CLIP(**config).state_dict().items()}, path / "open_clip_model.safetensors")
    return path


def copied(directory: Path, target: Path, *left_out: str) -> Path:
    for file in directory.iterdir():
        if file.name not in left_out:
            (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
def test_a_directory_gives_open_clips_own_features(directory: Path, prefix: str) -> None:
    import open_clip

    model = load_model(f"{prefix}{directory}", device="cpu")
    bare, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    bare.eval()
    ids = open_clip.get_tokenizer(f"local-dir:{directory}")(CAPTIONS)
    assert torch.equal(model.tokenize(CAPTIONS), ids)
    assert ids.shape == (4, 10)
    assert (ids.max(dim=1).values == ids.max()).all()  # the end token, by which this model pools, is in every row
    drawing = Image.new("RGB", (50, 40), "teal")
    pixels = preprocess(drawing)[None]
    assert torch.equal(model.preprocess(drawing)[None], pixels)
    with torch.no_grad():
        torch.testing.assert_close(model.text.encode(ids), bare.encode_text(ids), atol=1e-5, rtol=0)
        torch.testing.assert_close(model.image.encode(pixels), bare.encode_image(pixels), atol=1e-5, rtol=0)
    assert (model.image.length, model.text.length) == (16, 10)
    assert model.settings["ovi_tokens"] == 2


def test_a_directory_is_loaded_without_the_network(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_model(directory).name == str(directory)


def test_embedded_models_load_by_name() -> None:
    for name in embedded_models():
        model = load_model(name, device="cpu")
        assert (model.name, model.precision, str(model.device)) == (name, "fp32", "cpu")


def test_random_weights_are_seeded_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load_model("ViT-S-32-alt/random", device="cpu")
    assert torch.equal(torch.rand(1), expected)
    assert first.weights_digest == load_model("ViT-S-32-alt/random", device="cpu").weights_digest
    assert first.name == "ViT-S-32-alt/random"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-33/openai", "unknown model.*ViT-B-32"),
        ("dinov2", "unknown model.*timm:vit_base_patch14_dinov2.lvd142m"),
        ("tinny", "unknown model 'tinny'; nearest names"),
        ("ViT-B-32/openia", "unknown weights of ViT-B-32 'openia'; nearest names: openai"),
        ("ViT-B-32", "without weights.*ViT-B-32/openai.*ViT-B-32/random"),
        ("ViT-B/32", "without weights"),
        ("ViT-B-32//nowhere/model.safetensors", "no checkpoint /nowhere/model.safetensors"),
        ("local-dir:/nowhere", "/nowhere holds no open_clip_config.json"),
        ("./nowhere", "holds no open_clip_config.json"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        load_model(name)


def test_an_activation_that_the_weights_were_not_trained_with_is_refused(directory: Path) -> None:
    with pytest.raises(XgapError, match="trained with QuickGELU"):
        load_model("ViT-B-32/openai", activation="gelu")
    with pytest.raises(XgapError, match="trained with GELU"):
        load_model("ViT-B-32/laion2b_s34b_b79k", activation="quickgelu")
    with pytest.raises(XgapError, match="is built with gelu; quickgelu"):
        load_model(directory, activation="quickgelu")
    with pytest.raises(XgapError, match="activation"):
        load_model(directory, activation="relu")


def test_a_checkpoint_file_is_loaded_with_the_activation_that_is_said(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = {k: v.contiguous() for k, v in open_clip.create_model("ViT-S-32-alt").state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    name = f"ViT-S-32-alt/{tmp_path / 'w.safetensors'}"
    with pytest.raises(XgapError, match="does not say"):
        load_model(name)
    quick, plain = (load_model(name, activation=a, device="cpu") for a in ("quickgelu", "gelu"))
    assert (quick.activation, plain.activation) == ("quickgelu", "gelu")
    assert quick.weights_digest == plain.weights_digest
    with pytest.raises(XgapError, match="cannot be loaded"):
        load_model(f"ViT-B-32/{tmp_path / 'w.safetensors'}", activation="gelu")


def test_broken_directories_are_reported_in_one_sentence(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="holds no weights"):
        load_model(copied(directory, tmp_path, "open_clip_model.safetensors"))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(XgapError, match="cannot be loaded"):
        load_model(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(XgapError, match="not an open_clip configuration"):
        load_model(tmp_path)


@pytest.mark.parametrize("forbidden", [False, True])  # as HF_HUB_OFFLINE says, in whatever environment the tests run
@pytest.mark.parametrize("name", UNREACHABLE)
def test_an_unreachable_hub_is_reported_at_once_and_a_forbidden_one_is_not_contacted(
    name: str, forbidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import logging
    import socket

    from huggingface_hub import constants

    asked: list[object] = []

    def unreachable(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    slept: list[float] = []
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", forbidden)
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(XgapError, match=r"hub cannot be reached.*local-dir"):
        load_model(name, cache_dir=tmp_path)
    assert bool(asked) is not forbidden
    assert slept == []  # nothing was retried
    assert constants.HF_HUB_OFFLINE is forbidden
    assert [record for record in caplog.records if "open_clip" in record.pathname] == []  # it says nothing beside
    assert logging.getLogger().handlers == handlers


def test_openais_weights_are_built_with_their_activation() -> None:
    from xgap_analysis.models.catalog import _find

    assert _find("ViT-B-32/openai", None).create.keywords["quick_gelu"]
    assert not _find("ViT-B-32/laion2b_s34b_b79k", None).create.keywords["quick_gelu"]


def test_an_own_configuration_stands_in_the_place_of_an_architecture(directory: Path, tmp_path: Path) -> None:
    whole = json.loads((directory / "open_clip_config.json").read_text())
    weights = directory / "open_clip_model.safetensors"
    native = load_model(directory)
    image, captions = Image.new("RGB", (40, 40), "red"), ["a dog"]
    beside = tmp_path / "own"
    beside.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (beside / name).write_bytes((directory / name).read_bytes())
    for name, said in (("whole", whole), ("bare", whole["model_cfg"])):  # as a directory has it, and as open_clip does
        (beside / f"{name}.json").write_text(json.dumps(said))
        model = load_model(f"{beside}/{name}.json//{weights}")
        pixels = native.image.prepare([image])
        assert torch.equal(model.image.encode(pixels), native.image.encode(pixels))
        assert torch.equal(
            model.text.encode(model.text.prepare(captions)), native.text.encode(native.text.prepare(captions))
        )
    first, again = (load_model(f"{beside}/whole.json/random") for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert first.logit_scale > 1


def test_open_clips_own_register_of_configurations_is_known(directory: Path, tmp_path: Path) -> None:
    from open_clip import add_model_config, factory

    whole = json.loads((directory / "open_clip_config.json").read_text())["model_cfg"]
    whole["text_cfg"].pop("hf_tokenizer_name")
    (tmp_path / "own-vit.json").write_text(json.dumps(whole))
    before = list(factory._MODEL_CONFIG_PATHS)
    add_model_config(tmp_path / "own-vit.json")
    try:
        assert load_model("own-vit/random").image.width == 16
    finally:
        factory._MODEL_CONFIG_PATHS[:] = before
        factory._rescan_model_configs()


@pytest.mark.parametrize(
    ("name", "said", "message"),
    [
        ("missing.json/random", None, "there is no configuration .*missing.json"),
        ("own.json", "{}", "own.json is a configuration without weights; name them as .*own.json//path/to/weights"),
        ("own.json//weights.pt", '{"a": 1}', "own.json is not an open_clip configuration"),
        ("own.json/random", "[", "own.json is not an open_clip configuration"),
    ],
)
def test_an_own_configuration_that_says_nothing(name: str, said: str | None, message: str, tmp_path: Path) -> None:
    if said is not None:
        (tmp_path / "own.json").write_text(said)
    with pytest.raises(XgapError, match=message):
        load_model(f"{tmp_path}/{name}")
