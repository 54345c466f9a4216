"""Towers of clips equal their formulas in numpy, give the cards' known answers, and leave the base as it is."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.video import FRAME_TOWERS, with_frames

Matrix = np.ndarray
Weights = Mapping[str, Matrix]
HEADS = 4


def norm(x: Matrix, w: Weights, name: str) -> Matrix:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def attend(q: Matrix, k: Matrix, w: Weights, name: str) -> Matrix:
    """What queries [q, width] read from keys [t, width]."""
    parts = zip(np.split(w[f"{name}.in_proj_weight"], 3), np.split(w[f"{name}.in_proj_bias"], 3), strict=True)
    reads, keys, values = (x @ m.T + b for x, (m, b) in zip((q, k, k), parts, strict=True))
    made = []
    for part in np.split(np.arange(q.shape[1]), HEADS):
        logits = reads[:, part] @ keys[:, part].T / np.sqrt(len(part))
        weight = np.exp(logits - logits.max(1, keepdims=True))
        made.append(weight / weight.sum(1, keepdims=True) @ values[:, part])
    return np.concatenate(made, axis=1) @ w[f"{name}.out_proj.weight"].T + w[f"{name}.out_proj.bias"]


def fed(x: Matrix, w: Weights, name: str) -> Matrix:
    inner = norm(x, w, f"{name}.ln_2") @ w[f"{name}.mlp.c_fc.weight"].T + w[f"{name}.mlp.c_fc.bias"]
    inner = inner * 0.5 * (1 + torch.erf(torch.tensor(inner) / 2**0.5).numpy())
    return x + inner @ w[f"{name}.mlp.c_proj.weight"].T + w[f"{name}.mlp.c_proj.bias"]


def embedded(image: Matrix, w: Weights, time: Matrix | float = 0.0) -> Matrix:
    """Class token and patches of pixels [3, h, w]."""
    kernel = w["visual.conv1.weight"]
    side = kernel.shape[-1]
    places = [(r, c) for r in range(0, image.shape[1], side) for c in range(0, image.shape[2], side)]
    patches = [np.einsum("chw,kchw->k", image[:, r : r + side, c : c + side], kernel) for r, c in places]
    position = w["visual.positional_embedding"]
    x = [w["visual.class_embedding"] + position[0], *(p + position[i + 1] + time for i, p in enumerate(patches))]
    return norm(np.stack(x), w, "visual.ln_pre")


def blocks_of(w: Weights) -> list[str]:
    depth = 1 + max(int(name.split(".")[3]) for name in w if name.startswith("visual.transformer.resblocks."))
    return [f"visual.transformer.resblocks.{i}" for i in range(depth)]


def unit(x: Matrix) -> Matrix:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def prompt_switch(clip: Matrix, w: Weights) -> Matrix:
    p, f = len(w["cube"]), len(clip)
    frames = [embedded(image, w) for image in clip]
    prompts = [w["cube"][i % p].copy() for i in range(f)]
    for name in blocks_of(w):
        read = [norm(own, w, f"{name}.ln_1") for own in prompts]
        made = []
        for i in range(f):
            chunk = i // p * p
            x = np.concatenate([norm(frames[i], w, f"{name}.ln_1"), [read[chunk + k][i % p] for k in range(p)]])
            made.append(attend(x, x, w, f"{name}.attn"))
        for i, own in enumerate(made):
            t = len(frames[i])
            frames[i] = fed(frames[i] + own[:t], w, name)
            prompts[i] = fed(prompts[i] + own[t:], w, name)
    own = np.stack([norm(x[0], w, "visual.ln_post") for x in frames])
    own = own + attend(own, norm(np.concatenate(prompts), w, "visual.ln_post"), w, "head")
    return unit(own @ w["visual.proj"]).mean(0)


def space_time(clip: Matrix, w: Weights) -> Matrix:
    x = [embedded(image, w, w["time"][i]) for i, image in enumerate(clip)]
    own, frames = x[0][:1], [one[1:] for one in x]
    for i, name in enumerate(blocks_of(w)):
        a, b = norm(own, w, f"norms.{i}"), [norm(f, w, f"norms.{i}") for f in frames]
        own_then = own + attend(a, np.concatenate([a, *b]), w, f"over_time.{i}")
        then = [f.copy() for f in frames]
        for u in range(len(frames[0])):
            column = np.stack([f[u] for f in b])
            for k, made in enumerate(attend(column, np.concatenate([a, column]), w, f"over_time.{i}")):
                then[k][u] += made
        a, b = norm(own_then, w, f"{name}.ln_1"), [norm(f, w, f"{name}.ln_1") for f in then]
        own = fed(own + attend(a, np.concatenate([a, *b]), w, f"{name}.attn"), w, name)
        over_space = [attend(f, np.concatenate([a, f]), w, f"{name}.attn") for f in b]
        frames = [fed(f + made, w, name) for f, made in zip(frames, over_space, strict=True)]
    return norm(own[0], w, "visual.ln_post") @ w["visual.proj"]


def clips(n: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def at_random_weights(model: Any) -> Any:
    generator = torch.Generator().manual_seed(9)
    for name, weight in model.tower("video").module.named_parameters():
        if not name.startswith("visual."):
            weight.data = weight.data + 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def weights_of(model: Any) -> dict[str, Matrix]:
    return {name: x.double().numpy() for name, x in model.tower("video").module.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "frames", "formula"),
    [("prompt_switch(prompts=2)", 4, prompt_switch), ("space_time(frames=3)", 3, space_time)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_tower_equals_its_formula(
    make_model: Callable[..., Any], name: str, frames: int, formula: Callable[[Matrix, Weights], Matrix], seed: int
) -> None:
    made = at_random_weights(with_frames(make_model("native", seed), name, frames=frames, seed=seed))
    given = clips(2, frames, seed)
    expected = [formula(clip, weights_of(made)) for clip in given.double().numpy()]
    np.testing.assert_allclose(made.tower("video").encode(given), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["mean", "prompt_switch(prompts=1)"])
def test_frames_that_exchange_nothing_are_averaged(make_model: Callable[..., Any], name: str) -> None:
    made = with_frames(make_model("native"), name, frames=3)
    tower, given = made.tower("video"), clips(2, 3)
    single = torch.stack([tower.reading(1).encode(given[:, i : i + 1]) for i in range(3)]).mean(0)
    torch.testing.assert_close(tower.encode(given), single, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tower.encode(given.flip(1)), single, atol=1e-5, rtol=1e-5)
    if name == "mean":
        own = torch.nn.functional.normalize(made.image.encode(given[:, 0]), dim=1)
        torch.testing.assert_close(tower.encode(given[:, :1]), own)


def test_prompts_carry_what_a_frame_shows_to_its_chunk_alone(make_model: Callable[..., Any]) -> None:
    module = with_frames(make_model("native"), "prompt_switch(prompts=2)").tower("video").module  # the head is zero yet
    given, other = clips(1, 4), clips(1, 4)
    other[:, 0] += 1
    with torch.no_grad():
        moved = (module.frames(given) - module.frames(other)).abs().amax(dim=2)[0]
        switched = module.frames(given[:, [2, 3, 0, 1]])
        torch.testing.assert_close(switched, module.frames(given)[:, [2, 3, 0, 1]], atol=1e-5, rtol=1e-5)
    assert moved[1] > 1e-4, "the other frame of its chunk"
    assert moved[2:].max() < 1e-6, "not the frames of the other chunk"


def test_space_and_time_begin_at_the_image_tower(make_model: Callable[..., Any]) -> None:
    base = make_model("native")
    tower = with_frames(base, "space_time(frames=4)").tower("video")
    given = clips(3, 4)
    torch.testing.assert_close(tower.encode(given[:, :1]), base.image.encode(given[:, 0]), atol=1e-5, rtol=1e-5)
    order = tower.encode(given[:, [3, 1, 0, 2]])
    torch.testing.assert_close(tower.encode(given), order, atol=1e-5, rtol=1e-5)
    mean = with_frames(base, "mean", frames=4).tower("video").encode(given)
    assert (torch.nn.functional.normalize(tower.encode(given), dim=1) - mean).abs().max() > 1e-3, "no mean of frames"
    moved = at_random_weights(with_frames(base, "space_time(frames=4)")).tower("video")
    assert not torch.allclose(moved.encode(given), moved.encode(given.flip(1)), atol=1e-3), "it has learned an order"


def test_the_base_is_left_as_it_is_and_the_whole_is_another_model(make_model: Callable[..., Any]) -> None:
    base = make_model("native")
    before = base.image.encode(clips(1, 2)[0])
    models = [with_frames(base, name) for name in ("mean", "prompt_switch", "space_time")]
    models += [with_frames(base, "prompt_switch", seed=1), with_frames(base, "mean", frames=2)]
    assert len({base.fingerprint, *(model.fingerprint for model in models)}) == 6
    at_random_weights(models[1])
    assert torch.equal(base.image.encode(clips(1, 2)[0]), before)
    assert torch.equal(models[1].image.encode(clips(1, 2)[0]), before)
    assert not any(p.requires_grad for model in models for p in model.tower("video").module.parameters())


def test_clips_of_a_dataset_are_encoded_and_compared() -> None:
    data = xg.load_dataset("emoji-clips").split("test")
    model = with_frames(xg.load_model("tiny"), "mean", frames=12)
    video = data.items["video"].select(data.items["video"].ids[:6])
    found = xg.encode(model, video, store=None, progress=False)
    frames = xg.tokens(xg.load_model("tiny"), video, "frames", store=None, progress=False)
    assert (found.space, found.origin) == ("image", "video")
    torch.testing.assert_close(found.vectors, frames.pooled().vectors, atol=1e-5, rtol=1e-4)


class Colours:
    def encode(self, images: Any) -> Matrix:
        return np.stack([np.asarray(image, float).mean((0, 1)) for image in images])


def test_mistakes_are_one_sentence(make_model: Callable[..., Any]) -> None:
    base = make_model("native")
    with pytest.raises(XgapError, match="unknown frame tower 'prompt_swich'; nearest names: prompt_switch"):
        with_frames(base, "prompt_swich")
    with pytest.raises(XgapError, match="unknown option of space_time"):
        with_frames(base, "space_time(frame=2)")
    for name in ("space_time(frames=many)", "prompt_switch(prompts=0)"):
        with pytest.raises(XgapError, match=r"one (frame|prompt) or more, not"):
            with_frames(base, name)
    with pytest.raises(XgapError, match="takes a multiple of its 3 prompts as frames, not 4"):
        with_frames(base, "prompt_switch(prompts=3)", frames=4).tower("video").encode(clips(1, 4))
    with pytest.raises(XgapError, match="was made for 2 frames, not 3"):
        with_frames(base, "space_time(frames=2)", frames=3).tower("video").encode(clips(1, 3))
    for kind in ("average-pool", "qk-norm", "timm-linear"):
        with pytest.raises(XgapError, match="a ViT of open_clip with a class token, and"):
            with_frames(make_model(kind), "space_time")
    with pytest.raises(XgapError, match="a clip is a list of images, its frames, not Image"):
        with_frames(base, "mean").tower("video").prepare([Image.new("RGB", (4, 4))])
    for frames in (0, 2.5, "2"):
        with pytest.raises(XgapError, match=f"one frame or more, a whole number, not {frames!r}"):
            with_frames(base, "mean", frames=frames)  # type: ignore[arg-type]  # a user's mistake
    colours = xg.as_model(Colours(), ["image"])
    with pytest.raises(XgapError, match=r"pixels, and 'Colours' prepares an image as Image; .* the view 'frames'"):
        with_frames(colours, "mean").tower("video").prepare([[Image.new("RGB", (4, 4))]])
    with pytest.raises(XgapError, match=r"load 'tiny' and make it again with xg.with_frames .* not kept in a file"):
        xg.load_model("tiny+prompt_switch(prompts=2)")
    assert set(FRAME_TOWERS) == {"mean", "prompt_switch", "space_time"}


def test_another_tower_takes_the_place_and_the_name_of_the_first(make_model: Callable[..., xg.Model]) -> None:
    once = with_frames(make_model("native"), "mean")
    twice = with_frames(with_frames(make_model("native"), "space_time(frames=2)"), "mean")
    assert twice.name == once.name
    assert twice.weights_digest != with_frames(once, "prompt_switch(prompts=2)").weights_digest
