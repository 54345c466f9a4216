"""Models of anybody: a foreign torch model in a few lines, any encoder of lists, three modalities, and bad towers."""

import inspect
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

import xgap_analysis as xg

COLOURS = ("red", "green", "blue", "black", "white", "grey")


def tokenize(captions: Sequence[str]) -> Tensor:
    """Token ids `[n, 16]`: a start, one a word, an end of the highest id, and zeros."""
    ids = torch.zeros(len(captions), 16, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        words = [2 + zlib.crc32(word.encode()) % 197 for word in caption.lower().split()]
        own = [1, *words[:14], 199]
        row[: len(own)] = torch.tensor(own)
    return ids


class Net(nn.Module):
    """A foreign model: its own names, and nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.words = nn.Conv2d(3, 32, 8, 8), nn.Embedding(200, 24)
        self.of_patches, self.of_words = nn.Linear(32, 32), nn.Linear(24, 24)
        self.image_head, self.text_head = nn.Linear(32, 16, bias=False), nn.Linear(24, 16, bias=False)

    def cut(self, pixels: Tensor) -> Tensor:
        return self.patches(pixels).flatten(2).transpose(1, 2)

    def look(self, patches: Tensor, _: Any = None) -> Tensor:
        return torch.tanh(self.of_patches(patches)).mean(1)

    def follow(self, words: Tensor, ids: Tensor) -> Tensor:
        seen = (torch.arange(16) <= ids.argmax(-1, keepdim=True))[..., None].float()
        return (torch.tanh(self.of_words(words)) * seen).sum(-2) / seen.sum(-2)

    def see(self, pixels: Tensor) -> Tensor:
        return self.image_head(self.look(self.cut(pixels)))

    def read(self, ids: Tensor) -> Tensor:
        return self.text_head(self.follow(self.words(ids), ids))


@pytest.fixture(scope="module")
def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().eval()


def sound(item: str) -> Tensor:
    """A waveform of a colour's own frequency, with a little noise."""
    colour, _, number = item.partition("/")
    noise = 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(int(number)))
    return torch.sin(torch.arange(64) * (1 + COLOURS.index(colour)) / 9) + noise


def colours(split: str = "test") -> xg.Dataset:
    """Two images, two captions and two sounds of each colour, and the same of a second split."""
    first = 0 if split == "test" else 10
    ids = [f"{colour}/{first + i}" for colour in COLOURS for i in range(2)]

    def opener(item: str) -> Image.Image:
        shade = Image.new("RGB", (32, 32), item.partition("/")[0])
        shade.paste("orange", (0, 0, int(item.partition("/")[2]) % 7 + 1, 32))
        return shade

    items = {
        "audio": xg.Items([f"sound of {i}" for i in ids], lambda i: sound(i.removeprefix("sound of ")), "1", "audio"),
        "text": xg.Texts([f"text of {i}" for i in ids], [f"a {i.replace('/', ' square ')}" for i in ids]),
        "image": xg.Images(ids, opener, "colours 1"),
    }
    label = {
        i: i.removeprefix("sound of ").removeprefix("text of ").partition("/")[0] for m in items.values() for i in m.ids
    }
    splits = {"train": lambda: colours("train")} if split == "test" else {}
    words = {"colour": {colour: colour for colour in COLOURS}}
    return xg.Dataset("colours", split, items=items, labels={"colour": label}, class_names=words, splits=splits)


def pairs() -> xg.Dataset:
    """Images and texts alone."""
    whole = colours()
    return replace(whole, items={m: whole.items[m] for m in ("image", "text")}, splits={"train": lambda: only_pairs()})


def only_pairs() -> xg.Dataset:
    train = colours("train")
    return replace(train, items={m: train.items[m] for m in ("image", "text")})


def in_fifteen_lines(net: Any, data: xg.Dataset) -> tuple[xg.Model, pd.DataFrame, pd.DataFrame]:
    class Pixels:
        space, encode = "image", staticmethod(net.see)

        def prepare(self, images: Sequence[Image.Image]) -> Tensor:
            return torch.stack([to_tensor(image.resize((32, 32))) for image in images])

    class Words:
        space, encode, prepare = "text", staticmethod(net.read), staticmethod(tokenize)

    model = xg.Model("mine", {"image": Pixels(), "text": Words()})
    study = xg.Study([model], [data], ["I-I", "I-T"], ["none", "center"], progress=False)
    return model, study.run(), study.gaps()


def pixels_of(images: Sequence[Image.Image]) -> Tensor:
    return torch.stack([to_tensor(image.resize((32, 32))) for image in images])


def in_twenty_five_lines(net: Any, data: xg.Dataset) -> tuple[xg.Model, pd.DataFrame]:
    class Own:
        def __init__(self, space: str, length: int, prepare: Any, embed: Any, pool: Any, head: nn.Linear) -> None:
            self.space, self.length, self.prepare, self.embed = space, length, prepare, embed
            self.pool, self.head, self.projection = pool, head, head.weight.T
            self.width = head.in_features

        def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
            return self.head(self.pool(tokens, batch))

        def encode(self, batch: Tensor) -> Tensor:
            return self.encode_tokens(self.embed(batch), batch)

    image = Own("image", 16, pixels_of, net.cut, net.look, net.image_head)
    text = Own("text", 16, tokenize, net.words, net.follow, net.text_head)
    model = xg.Model("mine", {"image": image, "text": text})
    comparisons = ["I-I", "OTI-I", "T-T", "OVI-T"]
    return model, xg.Study([model], [data], comparisons, ["none", "isoclip"], steps=20, progress=False).run()


def lines(function: Callable[..., Any]) -> int:
    return len([line for line in inspect.getsource(function).splitlines() if line.strip()])


def main(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    rows = xg.main_rows(table)
    assert (rows["note"] == "").all()
    return dict(zip(zip(rows["comparison"], rows["correction"], strict=True), rows["value"], strict=True))


def test_a_foreign_model_runs_a_study_in_fifteen_lines(net: Net) -> None:
    assert lines(in_fifteen_lines) <= 15
    data = pairs()
    model, table, gaps = in_fifteen_lines(net, data)
    values = main(table)
    assert set(values) == {(c, by) for c in ("I-I", "I-T") for by in ("none", "center")}
    with torch.no_grad():
        pixels = torch.stack([to_tensor(image) for image in data.images])
        images = xg.Features(net.see(pixels), data.images.ids, "image", "image")
        texts = xg.Features(net.read(tokenize(list(data.texts))), data.texts.ids, "text", "text")
    assert values["I-I", "none"] == pytest.approx(xg.retrieval(images, images, data)["ap"].mean(), abs=1e-6)
    assert values["I-T", "none"] == pytest.approx(xg.retrieval(images, texts, data)["ap"].mean(), abs=1e-6)
    assert gaps["modality_gap"].iloc[0] > 0
    assert (model.logit_scale, model.precision, str(model.device), len(model.weights_digest)) == (
        1.0,
        "fp32",
        "cpu",
        64,
    )
    assert xg.check_tower(model.image) == "tower Pixels: image, 16 dimensions; it encodes"


def test_with_inversion_and_isoclip_in_twenty_five_lines(net: Net) -> None:
    assert lines(in_twenty_five_lines) + lines(pixels_of) <= 25
    model, table = in_twenty_five_lines(net, pairs())
    values = main(table)
    assert {c for c, _ in values} == {"I-I", "OTI-I", "T-T", "OVI-T"}
    images = xg.encode(model, pairs().images, progress=False)
    corrected = xg.correction("isoclip").fit(xg.Calibration({"image": images}, "none", model))(images)
    assert (corrected.vectors - images.vectors).abs().max() > 1e-3
    oti = xg.invert(model, images, steps=20, progress=False)
    assert (oti.loss[-1] < oti.loss[0]).all()
    for space, tower in model.towers.items():
        said = xg.check_tower(tower)
        assert said == f"tower Own: {space}, 16 dimensions; it encodes and can be inverted into, with 16 tokens of " + (
            "32 dimensions" if space == "image" else "24 dimensions"
        )


def test_a_model_is_known_by_its_weights_and_by_what_it_computes(net: Net) -> None:
    model, *_ = in_fifteen_lines(net, pairs())
    torch.manual_seed(1)  # other weights than those of `net`
    same, other = (in_fifteen_lines(n, pairs())[0] for n in (net, Net().eval()))
    assert model.fingerprint == same.fingerprint
    assert model.fingerprint != other.fingerprint
    assert model.weights_digest != other.weights_digest


def test_the_towers_of_the_package_keep_the_law(model: xg.Model) -> None:
    for modality, tower in model.towers.items():
        assert f"{modality}, 16 dimensions; it encodes and can be inverted into" in xg.check_tower(tower)


# Three modalities


class Sounds:
    """A tower of waveforms, which counts what goes through it."""

    space = "audio"
    probes = (torch.ones(64), torch.arange(64) / 64)

    def __init__(self) -> None:
        self.weight, self.seen = torch.randn(64, 16, generator=torch.Generator().manual_seed(3)), []

    def prepare(self, items: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(items))

    def encode(self, batch: Tensor) -> Tensor:
        self.seen.append(len(batch))
        return batch @ self.weight


def test_three_towers_by_the_same_code_as_two(net: Net) -> None:
    two, *_ = in_fifteen_lines(net, pairs())
    sounds = Sounds()
    model = xg.Model("three", {**two.towers, "audio": sounds})
    data = colours()
    assert list(data.items) == ["image", "text", "audio"]
    comparisons = ["A-A", "A-T", "I-A", "I-I"]
    table = xg.Study([model], [data], comparisons, ["none", "center"], progress=False).run()
    values = main(table)
    assert set(values) == {(c, by) for c in comparisons for by in ("none", "center")}
    features = {m: xg.encode(model, items, progress=False) for m, items in data.items.items()}
    assert (features["audio"].space, features["audio"].origin) == ("audio", "audio")
    expected = xg.retrieval(features["audio"], features["text"], data)["ap"].mean()
    assert values["A-T", "none"] == pytest.approx(expected, abs=1e-6)
    train = xg.encode(model, data.split("train").items["audio"], progress=False)
    moved = replace(features["audio"], vectors=features["audio"].vectors - train.vectors.double().mean(0).float())
    expected = xg.retrieval(moved, moved, data)["ap"].mean()
    assert values["A-A", "center"] == pytest.approx(expected, abs=1e-6)
    assert values["A-A", "none"] > 0.9  # a tone is like its own colour's
    before = sum(sounds.seen)
    xg.Study([model], [data], comparisons, progress=False).run()
    assert sum(sounds.seen) == before  # what was encoded is found again
    with pytest.raises(xg.XgapError, match="model 'mine' has no audio tower"):
        xg.encode(two, data.items["audio"], progress=False)


def test_an_unreadable_item_of_any_modality_is_named_or_skipped() -> None:
    def opener(item: str) -> Tensor:
        if item == "b":
            raise OSError("no such recording")
        return torch.ones(64) * ord(item)

    sounds = xg.Items(["a", "b", "c"], opener, "1", "audio")
    model = xg.Model("sounds", {"audio": Sounds()})
    with pytest.raises(xg.XgapError, match=r"audio 'b' cannot be read \(no such recording\)"):
        xg.encode(model, sounds, progress=False)
    with pytest.warns(UserWarning, match="1 unreadable audios were skipped, the first is 'b'"):
        assert xg.encode(model, sounds, on_error="skip", progress=False).ids == ("a", "c")


# Encoders of lists


class Encoder:
    """As those of sentence-transformers: lists in, an array out."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, sentences: list[Any]) -> np.ndarray:
        self.calls += 1
        return np.stack([np.bincount(tokenize([str(s)])[0].numpy(), minlength=200)[2:-1] + 0.1 for s in sentences])


def test_an_encoder_of_lists_is_a_model_of_the_modalities_it_is_named_for() -> None:
    encoder = Encoder()
    model = xg.as_model(encoder, name="counts of words")
    data = colours()
    texts = replace(data, items={"text": data.texts})
    table = xg.Study([model], [texts], ["T-T"], progress=False).run()
    own = xg.Features(encoder.encode(list(data.texts)), data.texts.ids, "text", "text")
    assert main(table)["T-T", "none"] == pytest.approx(xg.retrieval(own, own, data)["ap"].mean(), abs=1e-6)
    assert xg.check_tower(model.text) == "tower EncoderTower: text, 197 dimensions; it encodes"
    calls = encoder.calls
    xg.encode(model, data.texts, progress=False)
    assert encoder.calls == calls  # its features of probes tell it from others, so they are kept
    with pytest.raises(xg.XgapError, match="has no image tower"):
        xg.encode(model, data.images, progress=False)
    with pytest.raises(xg.XgapError, match="the text tower of model 'counts of words' has no width, length, embed"):
        xg.encode_pseudo_tokens(model, torch.zeros(1, 1, 4))


def test_what_nothing_is_known_of_is_never_kept() -> None:
    encoder = Encoder()
    model = xg.as_model(encoder, ["smell"])
    smells = xg.Items(["a", "b"], lambda item: f"smell {item}", "1", "smell")
    for calls in (1, 2):
        assert xg.encode(model, smells, progress=False).space == "smell"
        assert encoder.calls == calls
    assert xg.Store().entries() == []
    assert model.fingerprint != xg.as_model(encoder, ["smell"]).fingerprint
    told = xg.as_model(encoder, ["smell"], probes=["one", "two"])
    assert told.fingerprint == xg.as_model(encoder, ["smell"], probes=["one", "two"]).fingerprint
    assert told.fingerprint != xg.as_model(encoder, ["smell"], probes=["one", "three"]).fingerprint


# Bad ones, one sentence each


class Good:
    """A text tower that keeps the law; the bad ones break one part of it."""

    space, width, length = "text", 4, 16

    def __init__(self) -> None:
        self.table = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))

    def prepare(self, captions: Sequence[str]) -> Tensor:
        return tokenize(list(captions))

    def embed(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
        return tokens.mean(1)

    def encode(self, ids: Tensor) -> Tensor:
        return self.encode_tokens(self.embed(ids), ids)


def bad(**parts: Any) -> Any:
    return type("Bad", (Good,), parts)()


def no_grad(self: Any, tokens: Tensor, batch: Any = None) -> Tensor:
    with torch.no_grad():
        return tokens.mean(1)


BAD = {
    "has no space, which is a name": bad(space=""),
    "has no prepare, which is a function": bad(prepare=None),
    r"prepare of tower Bad fails for 2 items of text \(str\): KeyError: 'x'": bad(prepare=lambda self, c: {}["x"]),
    "encode of tower Bad fails .*: RuntimeError: .*mat1": bad(encode=lambda self, ids: self.table @ self.table),
    r"encode of the text tower \(Bad\) gives a ndarray for 2 items": bad(encode=lambda self, ids: np.ones((2, 4))),
    r"gives a tensor \[2, 16, 4\] for 2 items; features are": bad(encode=lambda self, ids: self.embed(ids)),
    "NaN or infinite": bad(encode=lambda self, ids: self.embed(ids).mean(1) * float("nan")),
    r"the second time: call .eval\(\)": bad(encode=lambda self, ids: torch.rand(len(ids), 4)),
    "the same feature for all items": bad(encode=lambda self, ids: torch.ones(len(ids), 4)),
    "another feature in other company": bad(encode=lambda self, ids: self.embed(ids).mean(1) - self.embed(ids).mean()),
    "tower Bad breaks its law: encode_tokens": bad(encode=lambda self, ids: 2 * self.embed(ids).mean(1)),
    r"embed of tower Bad gives \[2, 16, 4\]; its tokens .* here \[2, 17, 4\]": bad(length=17),
    "no gradient reaches the tokens of tower Bad: encode_tokens must not run under": bad(encode_tokens=no_grad),
    r"encode_tokens of tower Bad gives \[2, 16, 4\], and encode \[2, 4\]": bad(
        encode=lambda self, ids: self.embed(ids).mean(1), encode_tokens=lambda self, tokens, batch=None: tokens
    ),
    r"the projection of tower Bad is \[3, 5\], not \[p, d\] with d = 4": bad(projection=torch.ones(3, 5)),
    "the shortcut of tower Bad gives other features": bad(shortcut=lambda *_: lambda pseudo: torch.ones(1, 4)),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_tower_is_refused_with_what_is_broken(message: str) -> None:
    assert xg.check_tower(Good()).startswith("tower Good: text, 4 dimensions; it encodes and can be inverted into")
    with pytest.raises(xg.XgapError, match=message):
        xg.check_tower(BAD[message])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: xg.check_tower(Sounds(), []), "is checked with two items or more"),
        (lambda: xg.Model("m", {}), "a model has one tower or more, by modality"),
        (lambda: xg.Model("m", {"text": "words"}), "has no prepare: a tower has prepare"),
        (lambda: xg.as_model(7), "int is no encoder"),
        (lambda: xg.as_model(Encoder(), "text"), "modalities is a list of names"),
        (lambda: xg.as_model(lambda x: ["a", "b"]).text.encode(["x"]), "gives a list; an encoder has encode"),
        (lambda: xg.as_model(lambda x: [[1, 2], [3]]).text.encode(["x"]), "gives a list; an encoder has encode"),
        (lambda: xg.Items(["a"], str), "items need the name of their modality"),
        (lambda: xg.Dataset("d", "all", query_ids={"audio": ["a"]}), "unknown modality of dataset d with queries"),
    ],
)
def test_mistakes_are_one_sentence(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(xg.XgapError, match=message):
        made()
