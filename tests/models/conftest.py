"""Small open_clip models of every kind with random weights, a tokenizer that needs no file, and the laws of a tower."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError

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


@dataclass(frozen=True)
class Own:
    """A model as its own library has it, without anything of ours.

    Args:
        image, text: features of pixels and of token ids.
        patching: what holds the `weight` `[width, 3, p, p]` and the `bias` of its patch embedding.
        table: its token table `[vocabulary, width]`, which is changed in place.
    """

    image: Callable[[Tensor], Tensor]
    text: Callable[[Tensor], Tensor] | None = None
    patching: Any = None
    table: Tensor | None = None


def through_the_table(own: Own, ids: Tensor, start: int, pseudo: Tensor) -> Tensor:
    """The library's own features of a prompt in which unused words stand for pseudo-tokens `[count, width]`."""
    unused = [i for i in range(5, 200) if i not in ids][: len(pseudo)]
    before = own.table[unused].clone()
    own.table[unused] = pseudo
    changed = ids.clone()
    changed[:, start : start + len(pseudo)] = torch.tensor(unused)
    features = own.text(changed)
    own.table[unused] = before
    return features


def through_a_picture(own: Own, size: tuple[int, int], patches: Tensor) -> tuple[Tensor, Tensor]:
    """The library's own features of a picture of which every patch is one of three `[3, width]`, and those patches.

    The patch embedding is made to read one pixel of a patch, whose red, green or blue says which of the three it is.
    """
    patch = own.patching.weight.shape[-1]
    rows, columns = size[0] // patch, size[1] // patch
    which = torch.arange(rows * columns) * 3 // (rows * columns)
    colours = torch.eye(3)[which].T.reshape(1, 3, rows, columns)
    drawing = torch.zeros(1, 3, *size)
    drawing[..., : rows * patch, : columns * patch] = colours.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    weight, bias = own.patching.weight, own.patching.bias
    kept = weight.clone(), None if bias is None else bias.clone()
    weight.zero_()
    weight[:, :, 0, 0] = patches.T
    if bias is not None:
        bias.zero_()
    features = own.image(drawing)
    weight.copy_(kept[0])
    if bias is not None:
        bias.copy_(kept[1])
    return features, patches[which][None]


@torch.no_grad()
def check_laws(
    model: "Model",
    own: Own,
    size: tuple[int, int],
    ids: Tensor | None,
    headless: Sequence[str] = (),
    tolerance: float = 1e-5,
) -> None:
    """The laws of both towers against the library's own model.

    Args:
        size: of its pixels.
        ids: a prompt and another text `[2, length]`; no end token and no padding at positions 1 to 3. None for an
            image model.
        headless: the spaces that say that they have no linear projection.
    """
    exact = {"atol": tolerance, "rtol": 1e-5}
    generator = torch.Generator().manual_seed(1)
    sides = [("image", torch.randn(2, 3, *size, generator=generator), own.image)]
    sides += [] if ids is None else [("text", ids, own.text)]
    for space, batch, plain in sides:
        tower = model.tower(space)
        features = tower.encode(batch)
        expected = plain(batch)
        torch.testing.assert_close(features, expected, **exact)
        assert (features - expected).abs().max() < features.std(0).mean() / 100  # or all would be near in vain
        tokens = tower.embed(batch)
        assert tokens.shape == (2, tower.length, tower.width)
        torch.testing.assert_close(tower.encode_tokens(tokens, batch), features, **exact)
        if space in headless:
            with pytest.raises(XgapError, match="projection"):
                _ = tower.projection
            with pytest.raises(XgapError, match="projection"):
                tower.encode(batch, project=False)
        else:
            before = tower.encode(batch, project=False)
            assert before.shape[1:] == tower.projection.shape[:1]
            torch.testing.assert_close(before @ tower.projection, features, **exact)
    if own.patching is not None:
        patches = 0.02 * torch.randn(3, model.image.width, generator=generator)
        expected, tokens = through_a_picture(own, size, patches)
        torch.testing.assert_close(model.image.encode_tokens(tokens), expected, **exact)
    if own.table is not None and ids is not None:
        pseudo = 0.02 * torch.randn(2, model.text.width, generator=generator)
        tokens = model.text.embed(ids).clone()
        tokens[:, 1:3] = pseudo
        found = model.text.encode_tokens(tokens, ids)
        torch.testing.assert_close(found, through_the_table(own, ids, 1, pseudo), **exact)
        quick = model.text.shortcut(ids[0], 1, 2)
        if quick is not None:
            torch.testing.assert_close(quick(pseudo[None]), found[:1], **exact)


@pytest.fixture(scope="session")
def laws() -> Callable[..., None]:
    return check_laws


@pytest.fixture(scope="session")
def own_model() -> type[Own]:
    return Own
