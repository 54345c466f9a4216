"""What tests of systems share: random ragged tokens, random weights, and a decoder written out in numpy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import xgap_analysis as xg
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.scorer import Scorer

Matrix = np.ndarray
RAGGED = st.lists(st.integers(1, 5), min_size=2, max_size=5)


@pytest.fixture(scope="session")
def oracle() -> Any:
    """The model whose scores are known in closed form."""
    return xg.load_model("oracle")


@pytest.fixture(scope="session")
def scenes() -> Any:
    """Scenes of three things each, with their list captions."""
    data = xg.load_dataset("emoji-scenes").split("test")
    wanted = [i for i in data.images.ids if data.labels["n_things"][i] == "3"][:6]
    return data.images.select(wanted), data.texts.select([f"{i}/list" for i in wanted])


@pytest.fixture(scope="session")
def two_events() -> Any:
    """Clips of two events each, the captions of events, and the chains of clips."""
    items, labels = (data := xg.load_dataset("emoji-clips").split("val")).items, data.labels
    clips = [i for i in items["video"].ids if labels["n_events"][i] == "2"]
    texts = items["text"].select([f"{i}/{k}" for i in clips for k in (0, 1)])
    return items["video"].select(clips), texts, items["chain"].select([f"{i}/chain" for i in clips])


def some(lengths: Sequence[int], seed: int, space: str = "image", d: int = 8) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    return TokenFeatures.from_sets(sets, map(str, range(len(sets))), space, space)


def turned_round(tokens: TokenFeatures, first: int = 0) -> TokenFeatures:
    """The tokens of each item in the other order, but for the first ones."""
    sets = [own.vectors * own.norms[:, None] for own in (tokens.select([i]) for i in tokens.ids)]
    sets = [torch.cat([own[:first], own[first:].flip(0)]) for own in sets]
    return TokenFeatures.from_sets(sets, tokens.ids, tokens.space, tokens.origin)


def module_of(fitted: Scorer) -> nn.Module:
    found = fitted.function.module  # type: ignore[attr-defined]
    assert isinstance(found, nn.Module)
    return found


def at_random_weights(fitted: Scorer) -> Scorer:
    generator = torch.Generator().manual_seed(9)
    for weight in module_of(fitted).parameters():
        weight.data = weight.data + 0.3 * torch.randn(weight.shape, generator=generator)
    return fitted


def weights_of(module: nn.Module) -> dict[str, Matrix]:
    return {name: x.double().numpy() for name, x in module.state_dict().items()}


def sets_of(tokens: TokenFeatures) -> list[Matrix]:
    return [tokens.tokens_of(i).double().numpy() for i in tokens.ids]


def unit(x: Matrix) -> Matrix:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x: Matrix) -> Matrix:
    weight = np.exp(x - x.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def layer_norm(x: Matrix, weights: Mapping[str, Matrix], name: str) -> Matrix:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Matrix, weights: Mapping[str, Matrix], name: str) -> Matrix:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attended(q: Matrix, k: Matrix, v: Matrix, heads: int) -> Matrix:
    parts = np.split(np.arange(q.shape[-1]), heads)
    read = [softmax(q[:, part] @ k[:, part].T / np.sqrt(len(part))) @ v[:, part] for part in parts]
    return np.concatenate(read, axis=1)


def decoded(weights: Mapping[str, Matrix], tokens: Matrix, heads: int) -> Matrix:
    """What the queries of a `Reader` read from one item's tokens."""

    def attend(x: Matrix, memory: Matrix, name: str) -> Matrix:
        parts = zip(
            np.split(weights[f"{name}.in_proj_weight"], 3), np.split(weights[f"{name}.in_proj_bias"], 3), strict=True
        )
        q, k, v = (a @ m.T + b for a, (m, b) in zip((x, memory, memory), parts, strict=True))
        return linear(attended(q, k, v, heads), weights, f"{name}.out_proj")

    x, memory = weights["queries"], tokens * np.sqrt(tokens.shape[1])
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("decoder.layers."))
    for layer in (f"decoder.layers.{i}" for i in range(depth)):
        x = layer_norm(x + attend(x, x, f"{layer}.self_attn"), weights, f"{layer}.norm1")
        x = layer_norm(x + attend(x, memory, f"{layer}.multihead_attn"), weights, f"{layer}.norm2")
        inner = np.maximum(linear(x, weights, f"{layer}.linear1"), 0)
        x = layer_norm(x + linear(inner, weights, f"{layer}.linear2"), weights, f"{layer}.norm3")
    return x
