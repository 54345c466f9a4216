"""Adapters of a model: the resident head by its formula, a model again, files, and bad input in one sentence."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xgap_analysis as xg
from xgap_analysis.models.adaptation.adapted import with_attached
from xgap_analysis.models.adaptation.attached import ABOUT, WEIGHTS, attached, saved_adapter

DIMS = {"image": 16, "text": 16}
IDS = torch.tensor([[1, 5, 9, 199, *[0] * 12], [1, 7, 199, *[0] * 13]])
PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def drawn(made: Any, seed: int = 3) -> Any:
    """The same modules with weights that are not where they start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.modules.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def by_numpy(features: Tensor, weights: Mapping[str, Tensor], modality: str) -> np.ndarray:
    """`f + |f| B(gelu(A(f / |f|)))`, or without A."""
    x = features.double().numpy()
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    h = x / length
    if f"{modality}.hidden.weight" in w:
        h = h @ w[f"{modality}.hidden.weight"].T + w[f"{modality}.hidden.bias"]
        h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
    return x + length * (h @ w[f"{modality}.out.weight"].T + w[f"{modality}.out.bias"])


@pytest.mark.parametrize("width", [4, None])
def test_the_head_is_its_formula_with_the_stated_number_of_parameters(width: int | None) -> None:
    made = attached(xg.adapter("head", width=width), DIMS)
    each = 4 * (2 * 16 + 1) + 16 if width else 16 * (16 + 1)
    assert sum(p.numel() for p in made.modules.parameters()) == 2 * each
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    for modality in DIMS:
        assert (made.after(modality, features) - features).abs().max() == 0
    weights = drawn(made).modules.state_dict()
    for modality in DIMS:
        expected = by_numpy(features, weights, modality)
        assert made.after(modality, features).detach().numpy() == pytest.approx(expected, abs=1e-5)
        longer = made.after(modality, 7 * features) / 7  # the length of a feature changes nothing
        torch.testing.assert_close(longer, made.after(modality, features), atol=1e-5, rtol=1e-4)
    assert made.after("audio", features) is features


def test_an_adapted_model_starts_as_its_base_and_is_a_model_again(model: xg.Model) -> None:
    base = model
    model = xg.adapted(base, "head(width=4)")
    assert model.name == "random-0+head(width=4)"
    assert list(model.towers) == ["image", "text"]
    assert (model.logit_scale, model.precision) == (base.logit_scale, base.precision)
    torch.testing.assert_close(model.image.encode(PIXELS), base.image.encode(PIXELS), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.text.encode(IDS), base.text.encode(IDS), atol=1e-6, rtol=0)
    only = xg.adapted(base, "head(width=4, towers=text)")
    assert only.image is base.image
    assert only.text is not base.text
    assert not any(p.requires_grad for p in model.image.weights.parameters())


def test_the_fingerprint_says_which_features_a_model_gives(model: xg.Model, other_model: xg.Model) -> None:
    base = model
    moved = drawn(attached(xg.adapter("head(width=4)"), DIMS))
    models = [
        *(base, xg.adapted(base, "head(width=4)"), xg.adapted(base, "head(width=4)", seed=1)),
        *(xg.adapted(base, "head(width=5)"), with_attached(base, moved), xg.adapted(other_model, "head(width=4)")),
    ]
    assert len({model.fingerprint for model in models}) == len(models)
    assert xg.adapted(base, "head(width=4)").fingerprint == models[1].fingerprint


def test_tokens_go_through_the_base_and_the_head(model: xg.Model) -> None:
    base = model
    own = drawn(attached(xg.adapter("head(width=4)"), DIMS))
    model = with_attached(base, own)
    assert "can be inverted into, with 16 tokens of 32" in xg.check_tower(model.text)
    assert "can be inverted into, with 16 tokens of 32" in xg.check_tower(model.image)
    images = xg.encode(model, [image() for image in (noise(0), noise(1), noise(2))], store=None, progress=False)
    plain = xg.encode(base, [image() for image in (noise(0), noise(1), noise(2))], store=None, progress=False)
    assert (images.vectors - plain.vectors).abs().max() > 0.01
    oti = xg.invert(model, images, steps=6, progress=False)
    assert (oti.loss[-1] < oti.loss[0]).all()
    with pytest.raises(xg.XgapError, match="ends in the head of an adapter"):
        _ = model.image.projection
    with pytest.raises(xg.XgapError, match="ends in the head of an adapter"):
        model.text.encode(IDS, project=False)


def test_tokens_of_a_set_go_through_the_head_each(model: xg.Model) -> None:
    own = drawn(attached(xg.adapter("head(width=4, towers=image)"), DIMS))
    adapted = with_attached(model, own)
    plain, mask = model.image.hidden(PIXELS)
    made, kept = adapted.image.hidden(PIXELS)
    assert torch.equal(mask, kept)
    expected = by_numpy(plain.flatten(0, 1), own.modules.state_dict(), "image").reshape(plain.shape)
    np.testing.assert_allclose(made.detach().numpy(), expected, atol=1e-4)
    assert np.abs(expected - plain.numpy()).max() > 0.01
    items = [image() for image in (noise(0), noise(1))]
    before, after = (xg.tokens(m, items, store=None, progress=False) for m in (model, adapted))
    assert before.vectors.shape == after.vectors.shape
    assert (before.vectors - after.vectors).abs().max() > 0.01
    vectors = xg.as_model(lambda waves: np.array(waves) + 2.0, ["audio"], probes=[[1.0, 2.0, 3.0]])
    assert not hasattr(xg.adapted(vectors, "head(width=2)").tower("audio"), "hidden")


def noise(seed: int) -> Any:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    return lambda: Image.fromarray(pixels)


def test_anybodys_model_of_any_modalities_can_be_adapted() -> None:
    counts = xg.as_model(lambda captions: np.array([[len(c), c.count("a") + 1.0, 1.0] for c in captions]))
    sounds = xg.as_model(lambda waves: np.array(waves)[:, :3] + 2.0, ["audio"], probes=[[1.0, 2.0, 3.0]])
    both = xg.Model("both", {**counts.towers, **sounds.towers})
    model = xg.adapted(both, "head(width=2, towers=audio)")
    assert model.text is both.text
    assert model.tower("audio").encode([[1.0, 2.0, 3.0]]).tolist() == [[3, 4, 5]]
    assert model.fingerprint == xg.adapted(both, "head(width=2, towers=audio)").fingerprint
    silent = xg.as_model(lambda waves: np.array(waves), ["audio"])
    with pytest.raises(xg.XgapError, match="has probes, so the dimensions of its features are unknown"):
        xg.adapted(silent, "head")


class Times(nn.Module):
    def __init__(self, factor: float, keep: int | None = None) -> None:
        super().__init__()
        self.factor, self.keep = nn.Parameter(torch.tensor(factor)), keep

    def forward(self, features: Tensor) -> Tensor:
        return (self.factor * features)[:, : self.keep]


def shrinks(dims: Mapping[str, int]) -> Mapping[str, nn.Module]:
    return {"image": Times(1.0, 3)}


SHRINKS = xg.Adapter("shrinks", shrinks, starts_as_base=False)
CLAIMS = xg.Adapter("claims", lambda dims: {"image": Times(-1.0)}, starts_as_base=("image",))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("haed", "unknown adapter 'haed'; nearest names: head"),
        ("head(widht=4)", "unknown option of head 'widht'; nearest names: width"),
        ("head(4)", r"an adapter takes options by name: head\(option=value\)"),
        (7, "an adapter is a name, an Adapter or a function of dimensions, not 7"),
        ("head(width=0)", "the width of a head is 1 or more, or None"),
        ("head(towers=audio)", "the towers of a head are all or one of image, text, not 'audio'"),
        (lambda dims: {"audio": nn.Identity()}, "enters 'audio', and the towers of this model are: image, text"),
        (lambda dims: {"audio": dims["audio"]}, "looks for the dimensions of 'audio', and the towers"),
        (lambda dims: nn.Identity(), "must give a torch module for each modality"),
        (lambda dims: {"image": nn.Linear(3, 3)}, r"the image module of adapter own fails on features \[4, 16\]"),
        (lambda dims: {"image": nn.Flatten(0)}, r"must give features \[n, d\], not \[64\] for \[4, 16\]"),
        (CLAIMS, "says that it starts as the base, but it changes image features"),
        (SHRINKS, "features of different dimensions, which cannot be compared: image 3, text 16"),
    ],
)
def test_mistakes_are_one_sentence(model: xg.Model, wanted: Any, message: str) -> None:
    with pytest.raises(xg.XgapError, match=message) as caught:
        xg.adapted(model, wanted)
    assert "\n" not in str(caught.value)


def test_registering_follows_the_rules_of_all_registries() -> None:
    xg.register_adapter("kept")(shrinks)
    with pytest.warns(UserWarning, match="the adapter 'kept' is replaced by its new definition"):
        xg.register_adapter("kept", starts_as_base=False)(shrinks)
    assert xg.adapter(shrinks).starts_as_base is False  # the function itself, where its name may stand
    with pytest.raises(xg.XgapError, match="there is an adapter named 'head' already"):
        xg.register_adapter("head")(shrinks)
    with pytest.raises(xg.XgapError, match="adapter 'seven' must be a function, not 7"):
        xg.register_adapter("seven")(7)  # type: ignore[arg-type]
    with pytest.raises(xg.XgapError, match="an adapter enters at head, positions, tokens, mlp, tower, not at 'end'"):
        xg.register_adapter("x", place="end")
    with pytest.raises(xg.XgapError, match="are lists of names"):
        xg.register_adapter("x", trained="visual.")


def test_files_hold_name_options_and_numbers_and_give_the_same_modules(tmp_path: Path) -> None:
    own = drawn(attached(xg.adapter("head(width=4)"), DIMS))
    own.save(tmp_path)
    assert json.loads((tmp_path / ABOUT).read_text()) == {"adapter": "head(width=4, towers=all)"}  # defaults included
    again = saved_adapter(tmp_path, DIMS)
    assert again is not None
    assert again.adapter.in_full == own.adapter.in_full
    before, after = own.modules.state_dict(), again.modules.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert saved_adapter(tmp_path / "elsewhere", DIMS) is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (ABOUT, b"{", f"{ABOUT} is not the description of an adapter"),
        (ABOUT, b"[1]", f"{ABOUT} is not the description of an adapter"),
        (ABOUT, b'{"adapter": "my-own"}', r"names an adapter that is not known here, register it first \(--plugin"),
        (ABOUT, b'{"adapter": "head(width=9)"}', rf"{WEIGHTS} does not hold the weights of adapter head\(width=9\)"),
        (ABOUT, b'{"adapter": "head(width=4"}', "names an adapter that is not known here"),
        (WEIGHTS, b"no numbers", f"{WEIGHTS} is damaged"),
        (WEIGHTS, None, f"{WEIGHTS} is missing"),
        (WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    attached(xg.adapter("head(width=4)"), DIMS).save(tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(xg.XgapError, match=message) as caught:
        saved_adapter(tmp_path, DIMS)
    assert "\n" not in str(caught.value)


def test_a_folder_of_one_tower_leaves_out_the_head_of_the_other(tmp_path: Path) -> None:
    own = drawn(attached(xg.adapter("head(width=4)"), DIMS))
    own.save(tmp_path)
    alone = saved_adapter(tmp_path, {"image": 16})
    assert alone is not None
    assert list(alone.modules) == ["image"]
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(alone.after("image", features), own.after("image", features))
    with pytest.raises(xg.XgapError, match="does not hold the weights of adapter"):
        saved_adapter(tmp_path, {"image": 24})


def test_no_memory_is_taken_for_options_that_the_weights_do_not_have(tmp_path: Path) -> None:
    attached(xg.adapter("head(width=4)"), DIMS).save(tmp_path)
    (tmp_path / ABOUT).write_text(json.dumps({"adapter": f"head(width={10**13})"}))  # more than any machine has
    with pytest.raises(xg.XgapError, match="does not hold the weights of adapter head") as caught:
        saved_adapter(tmp_path, DIMS)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(xg.XgapError, match=f"{WEIGHTS} cannot be written"):
        attached(xg.adapter("head(width=4)"), DIMS).save(tmp_path / "file")
    attached(xg.adapter("head(width=4)"), DIMS).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", ABOUT, WEIGHTS}
