"""Small open_clip models of every kind with random weights, and a tokenizer that needs no file."""

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:  # at run time it is imported late, when the type checker of the package's annotations is in place
    from xgap_analysis.models import Model

SIZE, LENGTH, VOCABULARY, WIDTH, DIM = 32, 12, 200, 32, 24
END = VOCABULARY - 1
VIT = {"image_size": SIZE, "patch_size": 8, "width": WIDTH, "layers": 2, "head_width": 8}
TEXT = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 4, "layers": 3}
SIGLIP_TEXT = {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True}
TIMM = {"image_size": SIZE, "timm_model_name": "vit_tiny_patch16_224", "timm_proj": "linear", "timm_pool": "token"}
SIGLIP_VISION = {**TIMM, "timm_pool": "map", "timm_proj": "none"}
KINDS: dict[str, dict[str, Any]] = {
    "native": {"vision_cfg": VIT, "text_cfg": TEXT},
    "quickgelu": {"vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "layer-scale": {"vision_cfg": {**VIT, "ls_init_value": 0.3}, "text_cfg": {**TEXT, "ls_init_value": 0.3}},
    "average-pool": {
        "vision_cfg": {**VIT, "pool_type": "avg"},
        "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": END},
    },
    "qk-norm": {"vision_cfg": {**VIT, "qk_norm": True}, "text_cfg": {**TEXT, "qk_norm": True}},
    "custom": {"vision_cfg": {**VIT, "no_ln_pre": True, "final_ln_after_pool": True}, "text_cfg": TEXT, "custom": True},
    "siglip": {
        "vision_cfg": SIGLIP_VISION,
        "text_cfg": SIGLIP_TEXT,
        "custom": True,
    },
    "timm-linear": {"vision_cfg": TIMM, "text_cfg": {**TEXT, "pool_type": "last"}, "custom": True},
    "timm-bias": {"vision_cfg": {**TIMM, "timm_proj": None}, "text_cfg": {**TEXT, "proj_type": "none"}, "custom": True},
    "hugging-face": {"vision_cfg": VIT, "text_cfg": TEXT, "custom": True},
}


def tokenizer(start: int | None, end: int, padding: int) -> Callable[[Sequence[str]], Tensor]:
    """One token a word, by a checksum; framed, cut and padded as the libraries do it."""

    def tokenize(captions: Sequence[str]) -> Tensor:
        rows = []
        for caption in captions:
            words = [5 + zlib.crc32(word.encode()) % (VOCABULARY - 10) for word in caption.split()]
            framed = words if start is None else [start, *words]
            kept = framed[: LENGTH - 1]
            rows.append([*kept, end, *[padding] * (LENGTH - 1 - len(kept))])
        return torch.tensor(rows)

    return tokenize


TOKENIZERS = {
    "clip": tokenizer(END - 1, END, 0),
    "clip-padded-with-end": tokenizer(END - 1, END, END),
    "siglip": tokenizer(None, 1, 1),
}


def build(kind: str, seed: int = 0) -> Any:
    """The bare open_clip model, with biases and norms that are not at their neutral start."""
    from open_clip.hf_model import HFTextEncoder
    from open_clip.model import CLIP, CustomTextCLIP
    from transformers import BertConfig

    torch.manual_seed(seed)
    settings = dict(KINDS[kind])
    model = (CustomTextCLIP if settings.pop("custom", False) else CLIP)(embed_dim=DIM, **settings)
    if kind == "siglip":
        model = CustomTextCLIP(embed_dim=192, **settings)  # its image tower has no projection to another dimension
    if hasattr(model.visual, "set_input_size"):
        model.visual.set_input_size(SIZE)
        model.visual.trunk.blocks = model.visual.trunk.blocks[:2]  # twelve would only be slower
    if kind == "hugging-face":
        bert = BertConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        model.text = HFTextEncoder("", DIM, config=bert, pooler_type="mean_pooler", proj_type="linear")
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def wrap(kind: str, seed: int = 0, **options: Any) -> "Model":
    """The same model as a dual encoder."""
    from xgap_analysis.models import from_open_clip

    own = TOKENIZERS["siglip" if kind == "siglip" else "clip"]
    return from_open_clip(build(kind, seed), own, lambda image: torch.zeros(3, SIZE, SIZE), name=kind, **options)


@pytest.fixture
def make_model() -> Callable[..., "Model"]:
    return wrap


@pytest.fixture
def bare_model() -> Callable[..., Any]:
    return build


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tokenizers() -> dict[str, Callable[[Sequence[str]], Tensor]]:
    return TOKENIZERS


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def captions() -> list[str]:
    return ["a photo of cat", "dog", "", "a b c d e f g h i j k l m n o p", "two red cars in the rain"]
