"""What tests share: a small random model, and a store of their own."""

import string
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

if TYPE_CHECKING:  # at run time a fixture imports it, when the type checker of the package's annotations is in place
    from xgap_analysis.core.registry import Registry
    from xgap_analysis.models import Model

CONTEXT, VOCABULARY = 16, 200

# A slow machine is no failure, and every run tries the same cases; for new ones: pytest --hypothesis-profile search
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker takes a whole file, whose fixtures its tests share; but a notebook that is run is a job of its own."""
    for item in items:
        alone = f" {item.name}" if item.name.startswith("test_it_runs_top_to_bottom") else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}{alone}"))


@pytest.fixture(autouse=True)
def xgap_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of one test, so that none reads or writes the user's."""
    home = tmp_path_factory.mktemp("xgap-home")
    monkeypatch.setenv("XGAP_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """A test draws the same numbers whatever ran before it in its worker."""
    torch.manual_seed(0)


def _registries() -> "list[Registry[Any]]":
    """Every registry of the modules that are imported by now."""
    core = sys.modules.get("xgap_analysis.core.registry")
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("xgap_analysis.")] if core else []
    names = [(m, name) for m in modules for name in vars(m) if name.isupper()]
    found = [getattr(m, name) for m, name in names if isinstance(getattr(m, name), core.Registry)]  # type: ignore[union-attr]
    return list({id(registry): registry for registry in found}.values())


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    """What a test registers is forgotten after it, so that none sees another's; the package's own stays."""
    before = {id(registry): set(registry._entries) for registry in _registries()}
    yield
    for registry in _registries():
        from xgap_analysis.core.registry import origin

        for name in set(registry._entries) - before.get(id(registry), set()):
            module, defined = origin(registry._code(registry._entries[name]))
            own = module.startswith("xgap_analysis.") and hasattr(sys.modules.get(module), defined.split(".")[0])
            if not own:  # an example in a docstring has the module's name, but not a name in the module
                registry.remove(name)


@pytest.fixture(autouse=True)
def no_figure_stays() -> Iterator[None]:
    """Figures of a test are closed after it; matplotlib warns of more than twenty."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def tokenize(captions: list[str]) -> Tensor:
    """Token ids `[n, 16]`, one a word; the end has the highest id, as CLIP's pooling wants it."""
    ids = torch.zeros(len(captions), CONTEXT, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        words = [2 + zlib.crc32(word.encode()) % (VOCABULARY - 3) for word in caption.lower().split()]
        own = [1, *words[: CONTEXT - 2], VOCABULARY - 1]
        row[: len(own)] = torch.tensor(own)
    return ids


def random_model(seed: int = 0) -> "Model":
    """An open_clip model of two layers a side, with seeded random weights."""
    from open_clip import image_transform
    from open_clip.model import CLIP

    from xgap_analysis.models import from_open_clip

    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    return from_open_clip(made, tokenize, image_transform(32, is_train=False), name=f"random-{seed}")


@pytest.fixture(scope="session")
def model() -> "Model":
    """A small random model; its features are of 16 dimensions."""
    return random_model()


@pytest.fixture(scope="session")
def other_model() -> "Model":
    """The same architecture with other weights."""
    return random_model(1)


def tiny_language(folder: Path, seed: int = 0) -> Path:
    """GPT-2 of 8 dimensions and 2 layers, whose tokens are letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate(string.printable)}
    made = Tokenizer(models.WordLevel({**letters, "[UNK]": len(letters)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(folder)
    sizes = GPT2Config(
        vocab_size=101, n_embd=8, n_layer=2, n_head=2, n_positions=96, bos_token_id=None, eos_token_id=None
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2Model(sizes)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(10)  # or all its states would be nearly alike
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_language() -> Callable[..., Path]:
    return tiny_language


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny causal language model."""
    return tiny_language(tmp_path_factory.mktemp("language"))
