"""Patch and word tokens of an open_clip tower, in the space of its features: its last layer through its own head."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError

Module = Any  # a module of open_clip, timm or transformers


def features_and_patches(visual: Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[n, d]` of pixels, and their projected patch tokens `[n, u, d]`, from one forward pass.

    Class and register tokens are left out. Neither is normalised.

    Args:
        visual: the image part of an open_clip model: its own ViT, or one of timm.
        pixels: `[n, 3, h, w]`, on its device.

    Raises:
        XgapError: a tower that is no ViT, or one that ends in an attention pool.
    """
    trunk: Module = getattr(visual, "trunk", None)
    if trunk is None and hasattr(visual, "class_embedding"):
        if visual.attn_pool is not None:
            raise _without("image", "ends in an attention pool, whose output is no patch")
        with _captured(visual.transformer) as outputs:
            features = visual(pixels)
        return features, _through(visual.proj, visual.ln_post(outputs[0][:, 1:]))
    if not hasattr(trunk, "fc_norm") or not hasattr(trunk, "patch_embed"):
        raise _without("image", f"({type(trunk or visual).__name__}) is no ViT")
    if getattr(trunk, "attn_pool", None) is not None:
        raise _without("image", "ends in an attention pool, whose output is no patch")
    hidden = trunk.forward_features(pixels)
    tokens = visual.head(trunk.get_classifier()(trunk.fc_norm(hidden[:, trunk.num_prefix_tokens :])))
    return visual.head(trunk.forward_head(hidden)), tokens


def features_and_words(text: Module, ids: Tensor, encode: Any) -> tuple[Tensor, Tensor]:
    """Features `[n, d]` of token ids, and their projected tokens `[n, length, d]`, from one forward pass.

    Special tokens and padding are among the tokens. Neither is normalised.

    Args:
        text: the text part of an open_clip model: its own, or one of transformers.
        ids: `[n, length]`, on its device.
        encode: the model's forward pass of texts.
    """
    with _captured(text.transformer) as outputs:
        features = encode(ids)
    made = outputs[0]
    if not isinstance(made, Tensor):  # of transformers
        return features, _through(text.proj, made.last_hidden_state)
    # CoCa appends a token of its own.
    return features, _through(text.text_projection, text.ln_final(made[:, : ids.shape[1]]))


def are_words(ids: Tensor, empty: Tensor) -> Tensor:
    """Which tokens of `ids [n, length]` are words: those that an empty caption `[length]` does not consist of."""
    return ~torch.isin(ids, empty.to(ids.device))


def _through(head: Tensor | nn.Module | None, tokens: Tensor) -> Tensor:
    if head is None:
        return tokens
    return tokens @ head if isinstance(head, Tensor) else head(tokens)


def _without(space: str, why: str) -> XgapError:
    return XgapError(f"the {space} tower {why}, so it has no tokens in the space of its features")


@contextlib.contextmanager
def _captured(module: Module) -> Iterator[list[Any]]:
    """Within, what comes out of the module."""
    outputs: list[Any] = []
    hook = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()
