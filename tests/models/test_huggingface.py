"""Directories of transformers' CLIP and SigLIP, small but of the published layout, against transformers itself."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import load_model

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 150,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-3,  # not the libraries' own, so that it must be read
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 101,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 35,  # no multiple of the patches, as in SigLIP's large models
    "patch_size": 8,
    "layer_norm_eps": 1e-4,
}
CAPTIONS = ["a photo of cat", "A dog!", "", "the quick brown fox jumps over the lazy dog again and again"]


def shaken(model: Any) -> Any:
    """Biases and norms away from their neutral start, so that each has its effect."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def clip_directory(path: Path, end: int, act: tuple[str, str] = ("quick_gelu", "quick_gelu"), **save: Any) -> Any:
    """A `CLIPModel` with OpenAI's whole vocabulary, in the files of the published repositories."""
    from open_clip import SimpleTokenizer
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    own = SimpleTokenizer()
    text = {**TEXT, "vocab_size": 49408, "max_position_embeddings": 16, "hidden_act": act[0]}
    text |= {"bos_token_id": 49406 if end != 2 else 0, "eos_token_id": end, "pad_token_id": 1}
    vision = {**VISION, "hidden_act": act[1]}
    model = shaken(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=40)))
    model.save_pretrained(path, **save)
    spelled = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {spelled.get(word, word): id_ for word, id_ in own.encoder.items()}
    (path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in own.bpe_ranks)
    (path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "unk_token": "<|endoftext|>", **special}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    size = {"size": {"shortest_edge": 35}, "crop_size": {"height": 35, "width": 35}}
    CLIPImageProcessor(**size).save_pretrained(path)
    return model


def siglip_directory(path: Path, act: str = "gelu_pytorch_tanh") -> Any:
    """A `SiglipModel` with a `tokenizer.json` of few words, in the files of the published repositories."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    words = [
        "<pad>",
        "</s>",
        "<unk>",
        *(f"▁{word}" for word in ("a", "photo", "of", "cat", "dog", "the")),
        *map(chr, range(97, 123)),
    ]
    words += ["▁", *(f"<{k}>" for k in range(200))]
    own = Tokenizer(models.Unigram([(word, -float(k)) for k, word in enumerate(words)], unk_id=2))
    own.normalizer = normalizers.Lowercase()
    own.pre_tokenizer = pre_tokenizers.Metaspace()
    own.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    torch.manual_seed(0)
    own.save(str(path / "tokenizer.json"))
    special = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 16}
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer", **special}))
    text = {**TEXT, "vocab_size": len(words), "max_position_embeddings": 16, "hidden_act": act}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "projection_size": VISION["hidden_size"]}
    model = shaken(SiglipModel(SiglipConfig(text_config=text, vision_config={**VISION, "hidden_act": act})))
    model.save_pretrained(path)
    SiglipImageProcessor(size={"height": 35, "width": 35}).save_pretrained(path)
    return model


def pooled(found: Any) -> torch.Tensor:
    """The features in what transformers gives: a tensor before version 5, an output that has them since."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def saved_again(kind: Any, path: Path, **sizes: Any) -> Any:
    """A part of the model in a directory, which holds nothing else afterwards."""
    part = kind.from_pretrained(path, **sizes).eval()
    for weight in part.parameters():
        weight.data = weight.data.clone()  # some versions map the file, which is written anew here
    part.save_pretrained(path)
    return part


def features_of(model: Any, own_model: Any) -> Any:
    """The library's own features, and the weights that its tokens come from."""
    table = model.text_model.embeddings.token_embedding.weight.data
    patching = model.vision_model.embeddings.patch_embedding
    return own_model(
        lambda pixels: pooled(model.get_image_features(pixels)),
        lambda ids: pooled(model.get_text_features(ids)),
        patching,
        table,
    )


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.mark.parametrize(
    ("end", "act"),
    [(2, ("quick_gelu", "quick_gelu")), (49407, ("gelu", "gelu")), (49407, ("gelu_pytorch_tanh", "quick_gelu"))],
)
@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_clip_gives_transformers_own_features(
    end: int, act: tuple[str, str], prefix: str, tmp_path: Path, laws: Callable[..., None], own_model: Any
) -> None:
    bare = clip_directory(tmp_path, end, act)
    model = load_model(f"{prefix}{tmp_path}", device="cpu")
    ids = model.tokenize(["a photo of", "two red cars and"])
    laws(model, features_of(bare, own_model), (35, 35), ids)
    assert model.activation == ("quickgelu" if "quick_gelu" in act else "gelu")
    assert model.logit_scale == pytest.approx(bare.logit_scale.exp().item())
    assert model.text.shortcut(ids[0], 1, 2) is not None
    assert (model.image.length, model.text.length) == (16, 16)


@pytest.mark.parametrize("end", [2, 49407, 300])
def test_clip_pools_where_transformers_pools(end: int, tmp_path: Path) -> None:
    bare = clip_directory(tmp_path, end)
    model = load_model(tmp_path, device="cpu")
    early, none = [49406, 7, 300, 8, 49407, 9, *[1] * 10], [49406, 7, 8, *[1] * 13]  # ends that come early, and none
    ids = torch.tensor([early, none])
    with torch.no_grad():
        expected = pooled(bare.get_text_features(ids))
        torch.testing.assert_close(model.text.encode(ids), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("act", ["gelu_pytorch_tanh", "gelu"])
def test_siglip_gives_transformers_own_features(
    act: str, tmp_path: Path, laws: Callable[..., None], own_model: Any
) -> None:
    bare = siglip_directory(tmp_path, act)
    model = load_model(tmp_path, device="cpu")
    ids = torch.randint(5, 200, (2, 16), generator=torch.Generator().manual_seed(0))
    laws(model, features_of(bare, own_model), (35, 35), ids, headless=("image", "text"))
    assert model.logit_scale == pytest.approx(bare.logit_scale.exp().item())
    assert model.logit_bias == pytest.approx(bare.logit_bias.item())
    with pytest.raises(XgapError, match="attention pool"):
        _ = model.image.projection


@torch.no_grad()
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_features_of_a_layer_are_transformers_own(family: str, tmp_path: Path) -> None:
    bare = clip_directory(tmp_path, 49407) if family == "clip" else siglip_directory(tmp_path)
    model = load_model(tmp_path, device="cpu")
    pixels = torch.randn(2, 3, 35, 35, generator=torch.Generator().manual_seed(1))
    ids = torch.randint(5, 200, (2, 16), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 49407 if family == "clip" else ids[:, -1]
    image, text = bare.vision_model, bare.text_model
    states = image(pixel_values=pixels, output_hidden_states=True).hidden_states[1]
    normed = image.post_layernorm(states)
    own = bare.visual_projection(normed[:, 0]) if family == "clip" else image.head(normed)
    torch.testing.assert_close(model.image.encode(pixels, layer=1), own, atol=1e-5, rtol=1e-5)
    words = text.final_layer_norm(text(input_ids=ids, output_hidden_states=True).hidden_states[1])[:, -1]
    own = bare.text_projection(words) if family == "clip" else text.head(words)
    torch.testing.assert_close(model.text.encode(ids, layer=1), own, atol=1e-5, rtol=1e-5)
    assert (model.image.blocks, model.text.blocks) == (2, 2)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_images_and_texts_are_prepared_as_the_directory_says(family: str, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, PreTrainedTokenizerFast

    (clip_directory(tmp_path, 49407) if family == "clip" else siglip_directory(tmp_path)).eval()
    model = load_model(tmp_path, device="cpu")
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    noise = Image.effect_noise((90, 60), 80)
    for drawing in (noise.convert("RGB"), noise, noise.convert("RGBA"), noise.convert("RGB").resize((10, 50))):
        expected = processor(images=drawing.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(model.preprocess(drawing), expected)
        assert expected.shape == (3, 35, 35)
    ids = model.tokenize(CAPTIONS)
    assert ids.shape == (4, 16)
    if family == "clip":
        from open_clip import SimpleTokenizer

        theirs = SimpleTokenizer(context_length=16)(CAPTIONS)
        filled = torch.where(theirs.cumsum(1).eq(theirs.sum(1, keepdim=True)) & theirs.eq(0), 49407, theirs)
        assert torch.equal(ids, filled)  # the same tokens; transformers pads with the end token
    else:
        own = PreTrainedTokenizerFast.from_pretrained(tmp_path)
        frame = {"padding": "max_length", "truncation": True, "max_length": 16, "return_tensors": "pt"}
        assert torch.equal(ids, own(CAPTIONS, **frame).input_ids)
        assert ids[0].tolist() == [3, 4, 5, 6, *[1] * 12]


def test_sharded_and_pickled_weights_are_read_too(tmp_path: Path) -> None:
    whole, shards, pickled = (tmp_path / name for name in ("whole", "shards", "pickled"))
    for path, save in ((whole, {}), (shards, {"max_shard_size": "100KB"}), (pickled, {})):
        bare = clip_directory(path, 49407, **save)
    (pickled / "model.safetensors").unlink()
    torch.save(
        {**bare.state_dict(), "text_model.embeddings.position_ids": torch.arange(16)[None]},
        pickled / "pytorch_model.bin",
    )
    assert len(list(shards.glob("*.safetensors"))) > 1
    digests = {load_model(path, device="cpu").weights_digest for path in (whole, shards, pickled)}
    assert len(digests) == 1


def test_half_precision_weights_are_computed_in_float32(tmp_path: Path) -> None:
    clip_directory(tmp_path, 49407).half().save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert model.image.encode(torch.zeros(1, 3, 35, 35)).dtype == torch.float32


def test_incomplete_and_foreign_directories_are_reported(tmp_path: Path) -> None:
    clip_directory(tmp_path, 49407)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    config = json.loads(files["config.json"])

    def changed(**values: Any) -> bytes:
        return json.dumps({**config, **values}).encode()

    odd = {**config["text_config"], "hidden_act": "relu"}
    wide = {**config["vision_config"], "hidden_size": 96}
    large = {**config["vision_config"], "image_size": 64}
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({"model.safetensors": None}, "holds no weights"),
        ({"model.safetensors": b"not weights"}, "cannot be loaded"),
        ({"model.safetensors": files["model.safetensors"][:-100]}, "cannot be loaded"),
        ({"vocab.json": files["vocab.json"].replace(b"<|", b"<")}, "ids up to 49409, but its model knows 49408 words"),
        ({"vocab.json": None, "merges.txt": None}, "holds no tokenizer"),
        ({"preprocessor_config.json": None}, "holds no image processor"),
        ({"config.json": b"{"}, "is not a configuration"),
        ({"config.json": b"[1]"}, "is not a configuration"),
        ({"config.json": None}, "holds no open_clip_config.json"),
        ({"config.json": changed(text_config=3)}, "cannot be loaded"),
        ({"config.json": changed(model_type="bert")}, "model_type 'bert', not one of clip, siglip"),
        ({"config.json": changed(model_type="siglip2")}, "NaFlex is not read"),
        ({"config.json": changed(text_config=odd)}, "activation 'relu' is none of"),
        ({"config.json": changed(vision_config=wide)}, "cannot be loaded"),
        ({"config.json": changed(vision_config=large)}, "cannot be loaded"),
    ]
    for replaced, message in cases:
        for name, content in {**files, **replaced}.items():
            (tmp_path / name).unlink(missing_ok=True) if content is None else (tmp_path / name).write_bytes(content)
        with pytest.raises(XgapError, match=message) as told:
            load_model(f"local-dir:{tmp_path}")
        assert "\n" not in str(told.value)


def test_a_processor_for_another_size_is_reported(tmp_path: Path) -> None:
    clip_directory(tmp_path, 49407)
    own = json.loads((tmp_path / "preprocessor_config.json").read_text())
    own |= {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    with pytest.raises(XgapError, match=r"gives pixels \[3, 48, 48\], but its model takes \[3, 35, 35\]"):
        load_model(tmp_path)


def siglip2_directory(path: Path, **said: Any) -> None:
    """A `SiglipModel` with a tokenizer of Gemma's class that knows both cases, as SigLIP 2 is published."""
    from tokenizers import Tokenizer, models, processors

    siglip_directory(path)
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581", *map(chr, range(33, 127))]
    own = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(letters)}, merges=[], unk_token="<unk>"))
    own.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    own.save(str(path / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", "bos_token": "<bos>"}
    config = {"tokenizer_class": "GemmaTokenizer", "padding_side": "right", **special, **said}
    (path / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("said", "lower"),
    [
        ({}, True),
        ({"tokenizer_class": "GemmaTokenizerFast"}, True),
        ({"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast"}, True),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, False),
        ({"do_lower_case": False}, False),
    ],
)
def test_captions_are_put_in_lower_case_as_the_tokenizer_says(said: Any, lower: bool, tmp_path: Path) -> None:
    siglip2_directory(tmp_path, **said)
    model = load_model(tmp_path, device="cpu")
    loud, quiet = model.tokenize(["A RED", "a red"])
    assert torch.equal(loud, quiet) == lower


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("alone", ["left out", "saved alone"])
def test_an_image_tower_alone_is_an_image_model(family: str, alone: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionModelWithProjection, SiglipVisionModel

    bare = clip_directory(tmp_path, 49407) if family == "clip" else siglip_directory(tmp_path)
    expected = bare.get_image_features
    # Copies: some versions map the file, which is written anew below.
    weights = {name: weight.clone() for name, weight in load_file(tmp_path / "model.safetensors").items()}
    texts = {k: v for k, v in weights.items() if not k.startswith(("vision_model.", "visual_projection."))}
    if alone == "left out":
        image = {k: v for k, v in weights.items() if k not in texts}
        save_file(image, tmp_path / "model.safetensors")
    else:
        sizes = {"projection_dim": 40} if family == "clip" else {}
        kind = CLIPVisionModelWithProjection if sizes else SiglipVisionModel
        saved_again(kind, tmp_path, **sizes)
    for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).unlink(missing_ok=True)
    model = load_model(tmp_path, device="cpu")
    pixels = torch.randn(2, 3, 35, 35, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.image.encode(pixels), pooled(expected(pixels)), atol=1e-5, rtol=1e-5)
    with pytest.raises(XgapError, match="has no text tower"):
        model.tokenize(["a"])
    save_file(texts, tmp_path / "model.safetensors")
    with pytest.raises(XgapError, match="text tower alone"):
        load_model(tmp_path)


def test_an_image_tower_without_a_projection_gives_its_pooled_features(tmp_path: Path) -> None:
    from transformers import CLIPVisionModel

    clip_directory(tmp_path, 49407)
    bare = saved_again(CLIPVisionModel, tmp_path)
    model = load_model(tmp_path, device="cpu")
    pixels = torch.randn(2, 3, 35, 35, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.image.encode(pixels), bare(pixels).pooler_output, atol=1e-5, rtol=1e-5)
    with pytest.raises(XgapError, match="without a linear projection"):
        _ = model.image.projection


def test_an_index_of_weights_names_files_beside_it(tmp_path: Path) -> None:
    clip_directory(tmp_path, 49407)
    index = {"weight_map": {"logit_scale": "../elsewhere.bin"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(XgapError, match=r"names '../elsewhere.bin', which is not a file beside it"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "merges.txt", "preprocessor_config.json"])
def test_a_pointer_of_git_lfs_is_reported(name: str, tmp_path: Path) -> None:
    clip_directory(tmp_path, 49407)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(XgapError, match=f"{name} is a Git LFS pointer"):
        load_model(tmp_path)


def test_a_weight_that_is_missing_is_reported(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    clip_directory(tmp_path, 49407)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(XgapError, match=r"cannot be loaded: 'text_projection.weight' is not there"):
        load_model(tmp_path)
