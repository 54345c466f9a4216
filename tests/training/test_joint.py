"""A joint encoder of sound and video: against numpy, the known answers of its contrasts, and a fit to real items."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import xgap_analysis as xg
from tests.scoring.systems.conftest import attended, decoded, layer_norm, linear, sets_of, some, unit, weights_of
from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.training.joint import CONTRASTS, FittedJoint, JointEncoder, fit_joint, query_scores, three_contrasts

HEADS, BOTH = 2, "audio+video"


@pytest.fixture(scope="module")
def made() -> FittedJoint:
    """With weights that are not those of a fit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = JointEncoder(8, queries=3, heads=HEADS).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for weight in module.parameters():
        weight.data = weight.data + 0.2 * torch.randn(weight.shape, generator=generator)
    return FittedJoint(module, ())


def named(tokens: TokenFeatures, space: str) -> TokenFeatures:
    return tokens.labelled(space=space, origin=space)


def by_numpy(weights: Mapping[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """Query vectors of the tokens of one item."""
    own = {name.removeprefix("joint."): x for name, x in weights.items() if name.startswith("joint.")}
    x = tokens * np.sqrt(tokens.shape[1])
    parts = zip(np.split(own["self_attn.in_proj_weight"], 3), np.split(own["self_attn.in_proj_bias"], 3), strict=True)
    q, k, v = (x @ m.T + b for m, b in parts)
    x = layer_norm(x + linear(attended(q, k, v, HEADS), own, "self_attn.out_proj"), own, "norm1")
    x = layer_norm(x + linear(np.maximum(linear(x, own, "linear1"), 0), own, "linear2"), own, "norm2")
    reader = {name.removeprefix("reader."): x for name, x in weights.items() if name.startswith("reader.")}
    return unit(decoded(reader, unit(x), HEADS))


def test_queries_read_the_union_of_ragged_tokens(made: FittedJoint) -> None:
    audio, video = named(some([2, 5, 1], 0), "audio"), some([3, 1, 4], 1)
    weights = weights_of(made.module)
    for sets in ({"audio": audio}, {"video": video}, {"audio": audio, "video": video}):
        found = made.encode(**sets)
        assert (found.space, found.lengths.tolist()) == ("+".join(sets), [3, 3, 3])
        for item, union in zip(found.ids, zip(*map(sets_of, sets.values()), strict=True), strict=True):
            expected = by_numpy(weights, np.concatenate(union))
            np.testing.assert_allclose(found.tokens_of(item).numpy(), expected, atol=2e-5)


def test_a_sound_without_a_video_is_encoded_alone_and_a_set_united_with_itself_is_that_set(made: FittedJoint) -> None:
    audio, video = named(some([2, 5, 1], 0), "audio"), some([3, 1, 4], 1)
    alone, both = made.encode(audio), made.encode(audio, video.select(["1"]))
    torch.testing.assert_close(both.tokens_of("0"), alone.tokens_of("0"), atol=1e-5, rtol=0)
    torch.testing.assert_close(both.tokens_of("2"), alone.tokens_of("2"), atol=1e-5, rtol=0)
    assert not torch.allclose(both.tokens_of("1"), alone.tokens_of("1"), atol=1e-2)
    others = TokenFeatures(video.vectors, video.offsets, list("345"), "video", "video")
    unlike = made.encode(audio, others, {"0": "x", "3": ""})  # no sound has the label of a video, an empty one either
    torch.testing.assert_close(unlike.vectors, alone.vectors, atol=1e-5, rtol=0)
    twice = made.encode(audio, audio)
    torch.testing.assert_close(twice.vectors, alone.vectors, atol=1e-5, rtol=0)
    texts = some([1, 1, 1], 3, "text").vectors
    queries = {BOTH: twice, "audio": alone, "video": made.encode(video=audio)}
    each = [
        three_contrasts(texts, {name: of.vectors.unflatten(0, (3, 3))}, torch.tensor(4.0), {name: 1.0})
        for name, of in queries.items()
    ]
    torch.testing.assert_close(each[0], each[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(each[1], each[2], atol=1e-5, rtol=0)


def test_without_the_other_two_the_contrast_is_plain_infonce() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(4, 6, generator=generator), dim=1)
    made = {name: torch.nn.functional.normalize(torch.randn(4, 3, 6, generator=generator), dim=2) for name in CONTRASTS}
    scale = torch.tensor(3.0)
    cosines = np.einsum("bd,mqd->bmq", texts.numpy(), made[BOTH].numpy()).max(axis=2)
    np.testing.assert_allclose(query_scores(texts, made[BOTH]).numpy(), cosines, atol=1e-6)
    logits = 3 * cosines
    infonce = np.mean([-np.mean(np.diag(z) - np.log(np.exp(z).sum(1))) for z in (logits, logits.T)])
    alone = three_contrasts(texts, made, scale, {BOTH: 1.0, "audio": 0.0, "video": 0.0})
    assert float(alone) == pytest.approx(infonce, rel=1e-5)
    each = [both_ways(query_scores(texts, made[name]), scale) for name in CONTRASTS]
    torch.testing.assert_close(three_contrasts(texts, made, scale), torch.stack(each).sum())


Triple = tuple[xg.Features, TokenFeatures, TokenFeatures, Mapping[str, str]]


def spoken(model: Any, n: int = 24) -> Triple:
    """Names, sounds and images of concepts, one each."""
    data = xg.load_dataset("emoji-spoken").split("train")
    concept = data.labels["concept"]
    chosen = list(dict.fromkeys(concept[i] for i in data.images.ids if i.startswith("noto/")))[:n]
    images = data.images.select([f"noto/{c}" for c in chosen])
    sounds = data.items_of("audio").select([f"slt/{c}" for c in chosen])
    texts = data.texts.select([i for i in data.texts.ids if concept[i] in chosen])
    how = {"store": None, "progress": False}
    return xg.encode(model, texts, **how), xg.tokens(model, sounds, **how), xg.tokens(model, images, **how), concept


def clips(model: Any, n: int = 10) -> Triple:
    """Captions of events, the names that are spoken in their clips, and frames."""
    data = xg.load_dataset("emoji-sound-clips").split("train")
    video, clip = data.items_of("video").select(data.items_of("video").ids[:n]), data.labels["clip"]
    sounds = data.items_of("audio").select([f"{item}/audio" for item in video.ids])
    texts = data.texts.select([item for item in data.texts.ids if clip[item] in set(video.ids)])
    how = {"store": None, "progress": False}
    sets = xg.tokens(model, sounds, "names", **how), xg.tokens(model, video, "frames", **how)
    return xg.encode(model, texts, **how), *sets, clip


@pytest.fixture(scope="module")
def model() -> Any:
    return xg.load_model("tiny-audio", device="cpu")


@pytest.mark.parametrize("items", [spoken, clips])
def test_it_is_fitted_to_texts_sounds_and_videos_and_tells_its_three_gaps(model: Any, items: Any) -> None:
    texts, sounds, videos, labels = items(model)
    how = {"epochs": 4, "batch": len(texts) // 2, "learning_rate": 1e-3, "queries": 2}
    one = fit_joint(texts, sounds, videos, labels, **how)
    assert one.losses[-1] < one.losses[0]
    assert one.losses[0] == fit_joint(texts, sounds, videos, labels, **{**how, "epochs": 1}).losses[0]
    table = one.gaps(texts, sounds, videos, labels)
    assert table["pair"].tolist() == ["audio+video-text", "audio-text", "video-text"]
    for column in ("before", "after"):
        assert table[column].between(0, 2).all()
    assert table["before"][1] == pytest.approx(xg.metrics.modality_gap(sounds.pooled(), texts))
    found = xg.retrieval(texts, one.encode(sounds, videos, labels), labels, scorer="late_interaction(inner=max)")
    assert found["ap"].mean() > 1.5 * np.mean(1 / np.arange(1, len(texts) + 1))  # above chance


def test_mistakes_are_one_sentence(made: FittedJoint, model: Any) -> None:
    texts, sounds, images, concept = spoken(model, 4)
    with pytest.raises(XgapError, match="takes sounds, videos, or both, and was given neither"):
        made.encode()
    with pytest.raises(XgapError, match="reads tokens of 8 dimensions, not audio of 512"):
        made.encode(sounds)
    with pytest.raises(XgapError, match="no label has a text, a sound and a video"):
        fit_joint(texts, sounds, images)
    with pytest.raises(XgapError, match=r"contrasts give weights to audio\+video, audio, video"):
        fit_joint(texts, sounds, images, concept, contrasts={"sound": 1.0})
    with pytest.raises(XgapError, match=r"contrasts give weights to audio\+video, audio, video, 0 or more"):
        fit_joint(texts, sounds, images, concept, contrasts={"audio": -1.0, "video": 1.0})
    with pytest.raises(XgapError, match="texts have 512 dimensions, sounds 8 and videos 512"):
        fit_joint(texts, some([2], 0), images, concept)
    with pytest.raises(XgapError, match="has no video of its label, so that there is no union"):
        made.gaps(texts, some([2, 1], 0), some([2], 1))


def test_it_is_the_same_from_its_file(tmp_path: Path) -> None:
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    about = {"model": "mine", "weights": "w1"}
    texts, sounds, clips = (xg.Features(x, "abcdefgh", space, space, about) for space in ("text", "audio", "image"))
    fitted = fit_joint(texts, sounds, clips, queries=3, heads=2, epochs=2)
    path, before = xg.save_joint(fitted, tmp_path / "new" / "joint.safetensors"), torch.get_rng_state()
    again = xg.load_joint(path)
    assert torch.equal(torch.get_rng_state(), before)
    for sets in ({"audio": sounds}, {"video": clips}, {"audio": sounds, "video": clips}):
        assert torch.equal(again.encode(**sets).vectors, fitted.encode(**sets).vectors)
    assert (again.losses, again.models, again.module.sizes) == (fitted.losses, fitted.models, fitted.module.sizes)
    assert not any(weight.requires_grad for weight in again.module.parameters())
    other = replace(sounds, provenance={**about, "weights": "w2"})
    for own in (fitted, again):
        with pytest.raises(
            XgapError, match="reads audio of model 'mine', and these tokens are of 'mine' with other weights"
        ):
            own.encode(other)
        assert len(own.encode(replace(sounds, provenance={}))) == 8  # of which nothing is said


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    texts, sounds, clips = (xg.Features(x, "abcdefgh", space, space) for space in ("text", "audio", "image"))
    path = xg.save_joint(fit_joint(texts, sounds, clips, queries=2, epochs=0), tmp_path / "joint.safetensors")
    whole = safetensors.torch.load_file(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["joint"])
    damaged = tmp_path / "damaged.safetensors"
    for change, weights, message in (
        ({"heads": 3}, whole, "do not divide|heads"),
        ({"queries": 3}, whole, "holds other weights than those"),
        ({"dim": 10**7}, whole, "holds fewer weights than its sizes"),
        ({"dim": 10**6}, {"few": torch.zeros(10**6)}, "holds other weights than those"),  # of which 10^13 would be made
        ({"dim": "16"}, whole, "'16' is no size"),
        ({"losses": None}, whole, "cannot be read as a joint encoder"),
        ({"models": 3}, whole, "cannot be read as a joint encoder"),
        ({}, {name: w * torch.nan for name, w in whole.items()}, "holds other weights than those"),
    ):
        safetensors.torch.save_file(weights, damaged, metadata={"joint": json.dumps({**about, **change})})
        with pytest.raises(XgapError, match=message) as caught:
            xg.load_joint(damaged)
        assert "\n" not in str(caught.value)
    safetensors.torch.save_file(whole, damaged)
    with pytest.raises(XgapError, match="'joint' is missing"):
        xg.load_joint(damaged)
    damaged.write_bytes(path.read_bytes()[:40])
    with pytest.raises(XgapError, match="cannot be read as a joint encoder"):
        xg.load_joint(damaged)
    with pytest.raises(XgapError, match=r"kept in a \.safetensors file"):
        xg.load_joint("joint.pt")
