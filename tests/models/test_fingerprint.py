"""A model is known by what it computes, and by nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import CONTEXT, VOCABULARY, tokenize
from xgap_analysis.datasets.items import Texts
from xgap_analysis.models import Model, from_open_clip
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2}


def build(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **options: Any) -> Any:
    """One set of weights in a model of these settings."""
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT).state_dict()
    made = CLIP(embed_dim=16, vision_cfg={**VISION, **(vision or {})}, text_cfg={**TEXT, **(text or {})}, **options)
    made.load_state_dict(weights)
    return made


def wrap(module: Any, name: str = "it", **options: Any) -> Model:
    from open_clip import image_transform

    return from_open_clip(module, tokenize, image_transform(32, is_train=False), name=name, **options)


def changed() -> Iterator[tuple[str, Any]]:
    yield "heads of the text tower", build(text={"heads": 4})
    yield "heads of the image tower", build(vision={"head_width": 8})
    yield "pooling of images", build(vision={"pool_type": "avg"})
    yield "pooling of texts", build(text={"pool_type": "first"})
    yield "another kind of GELU", build(quick_gelu=True)
    for block in (tanh := build()).transformer.resblocks:
        block.mlp.gelu = nn.GELU(approximate="tanh")
    yield "GELU by tanh", tanh
    (eps := build()).ln_final.eps = 1e-3
    yield "eps", eps
    (mask := build()).attn_mask.zero_()
    yield "mask", mask
    odd = build()
    whole = odd.visual.forward
    odd.visual.forward = lambda x: whole(x.flip(-1))
    yield "a function put in place of another", odd


def test_whatever_changes_the_features_changes_the_fingerprint() -> None:
    seen, weights = {wrap(build()).fingerprint: "the model itself"}, wrap(build()).weights_digest
    for what, module in changed():
        model = wrap(module)
        assert model.weights_digest == weights
        assert model.fingerprint not in seen, (what, seen.get(model.fingerprint))
        seen[model.fingerprint] = what


def test_what_changes_no_feature_does_not_change_it() -> None:
    first = wrap(build())
    for other in (
        wrap(build(), name="/another/path"),
        wrap(build(), settings={"ovi_tokens": 4}),
        wrap(build(), shortcuts=False),
        wrap(build(), precision="bf16"),  # it stands in a key by itself
    ):
        assert other.fingerprint == first.fingerprint


@pytest.mark.parametrize("n", [1, 3])
def test_it_does_not_depend_on_the_number_of_threads(n: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        assert wrap(build()).fingerprint == wrap(build()).fingerprint
    finally:
        torch.set_num_threads(before)
    assert wrap(build()).fingerprint == wrap(build()).fingerprint


def test_rounding_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor's sums differ in the seventh digit."""
    model, expected = wrap(build()), wrap(build()).fingerprint
    for name in ("encode_image", "encode_text"):
        whole: Callable[..., torch.Tensor] = getattr(model.text._model, name)

        def noisy(*args: Any, whole: Any = whole, **options: Any) -> torch.Tensor:
            made = whole(*args, **options)
            return made * (1 + 1e-7 * torch.randn_like(made))

        monkeypatch.setattr(model.text._model, name, partial(noisy))
    monkeypatch.setattr("xgap_analysis.models.fingerprint.architecture", None)
    assert model.fingerprint == expected


def test_a_model_of_four_heads_is_not_served_what_one_of_two_made(xgap_home: Path) -> None:
    two, four = wrap(build()), wrap(build(text={"heads": 4}))
    texts = Texts(("a", "b"), ("a red cat", "the old house"))
    made = [encode(model, texts, progress=False) for model in (two, four)]
    assert not torch.allclose(made[0].vectors, made[1].vectors, atol=1e-3)
    assert torch.equal(made[1].vectors, encode(four, texts, store=None, progress=False).vectors)
    assert encode(replace(two, name="again"), texts, progress=False).provenance["entry"] == made[0].provenance["entry"]
    assert len(Store(xgap_home).entries()) == 2
