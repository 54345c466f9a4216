"""Models by name: the embedded ones, open_clip's pretrained ones, the hub's, and directories of one's own."""

import contextlib
import json
import logging
import pickle
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from xgap_analysis.embedded import data_root
from xgap_analysis.errors import XgapError, unknown_name
from xgap_analysis.models.tower import DualEncoder

CONFIG = "open_clip_config.json"
LOCAL, HUB, RANDOM = "local-dir:", "hf-hub:", "random"
CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth")
LIBRARY_ERRORS = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, AssertionError),
    *(SafetensorError, pickle.UnpicklingError),
)
PATIENCE = 5.0  # seconds for a first answer of the hub; without one only its cache is read, and nothing is retried
OVI_TOKENS = {  # pseudo-patches P by which OVI was published: Mistretta et al. (ICLR 2025), its public configurations
    "ViT-B-32/openai": 1,
    "ViT-L-14/openai": 4,
    "ViT-B-32/datacomp_xl_s13b_b90k": 1,
    "ViT-L-14/datacomp_xl_s13b_b90k": 2,
    "ViT-B-16-SigLIP/webli": 4,
}


@dataclass(frozen=True)
class _Source:
    """Where a model comes from, in open_clip's terms."""

    architecture: str  # open_clip's name of it, with its prefix
    weights: str | None = None  # a tag or a file; None when the architecture's place holds them
    random: bool = False
    quick_gelu: bool = False  # to be forced
    needs_hub: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    cache_dir: str | Path | None = None,
    activation: str | None = None,
) -> DualEncoder:
    """A frozen dual encoder by name.

    Args:
        name_or_path: one of
            `"tiny"` or another embedded model (see `embedded_models`);
            `"ViT-B-32/openai"`, an open_clip architecture and its pretrained tag;
            `"hf-hub:org/repo"`, an open_clip model on the Hugging Face hub;
            `"local-dir:/path"` or the path of a directory with `open_clip_config.json`, weights and tokenizer;
            `"ViT-B-32//path/to/weights.safetensors"`, an architecture and a checkpoint (with `activation`);
            `"ViT-B-32/random"`, seeded random weights, as a control.
        device: where it computes; CUDA where there is one, else the CPU.
        precision: `"fp32"`, or `"bf16"` / `"fp16"` for autocast with weights in float32.
        cache_dir: where downloads are kept, instead of the libraries' own place.
        activation: `"quickgelu"` or `"gelu"`, for a checkpoint file that does not say; elsewhere a check.

    Raises:
        XgapError: an unknown name (the nearest are told), no weights, weights that cannot be fetched or do not fit,
            or an activation other than the one the weights were trained with.
    """
    from xgap_analysis.models.openclip import AUTOCAST, from_open_clip

    name = str(name_or_path)
    if precision not in AUTOCAST:
        raise XgapError(f"precision is one of {', '.join(AUTOCAST)}, not {precision!r}")
    if activation not in (None, "quickgelu", "gelu"):
        raise XgapError(f'activation is "quickgelu" or "gelu", not {activation!r}')
    source = _find(name, activation)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with _network(source.needs_hub) as reachable, _told(name, source, reachable):
        model, preprocess, tokenize = _create(source, where, cache_dir)
    loaded = from_open_clip(model, tokenize, preprocess, name=name, precision=precision, settings=source.settings)
    if activation and loaded.activation != activation:
        raise XgapError(f"model {name!r} is built with {loaded.activation}; {activation} would change its features")
    return loaded


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(config.parent.name for config in (data_root() / "models").glob(f"*/{CONFIG}"))


def _find(name: str, activation: str | None) -> _Source:
    if name.startswith(HUB):
        return _Source(name)
    if name.startswith(LOCAL):
        return _directory(Path(name.removeprefix(LOCAL)))
    if name in embedded_models():
        return _directory(data_root() / "models" / name)
    if name.startswith(("/", ".", "~")) or (Path(name) / CONFIG).is_file():
        return _directory(Path(name))
    return _architecture(name, activation)


def _directory(path: Path) -> _Source:
    path = path.expanduser()
    if not (path / CONFIG).is_file():
        raise XgapError(f"{path} holds no {CONFIG}; an open_clip directory has it beside its weights and tokenizer")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        text = config["model_cfg"]["text_cfg"]
        settings = dict(config.get("xgap_analysis", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise XgapError(f"{path / CONFIG} is not an open_clip configuration ({error!r})") from error
    if not any(file.suffix in (".safetensors", ".bin", ".pth") for file in path.iterdir()):
        raise XgapError(f"{path} holds no weights; open_clip looks for open_clip_model.safetensors there")
    return _Source(f"{LOCAL}{path}", needs_hub="hf_model_name" in text, settings=settings)


def _architecture(name: str, activation: str | None) -> _Source:
    from open_clip import get_model_config, list_models, list_pretrained

    known = list_models()
    before, _, file = name.partition("//")
    architecture, _, tag = (before, "", f"/{file}") if file else name.rpartition("/")
    architecture = architecture.replace("/", "-")  # OpenAI's own spelling is ViT-B/32
    if name.replace("/", "-") in known:
        _refuse_without_weights(name.replace("/", "-"))
    if architecture not in known:
        pretrained = [f"{a}/{t}" for a, t in list_pretrained()]
        raise unknown_name("model", name, [*embedded_models(), *pretrained, *known])
    config = get_model_config(architecture)
    tokenizer_from_hub = any(key in config["text_cfg"] for key in ("hf_tokenizer_name", "hf_model_name"))
    if tag == RANDOM:
        return _Source(architecture, random=True, quick_gelu=activation == "quickgelu", needs_hub=tokenizer_from_hub)
    if file:
        return _checkpoint(architecture, tag, activation, bool(config.get("quick_gelu")), tokenizer_from_hub)
    return _pretrained(architecture, tag, activation, bool(config.get("quick_gelu")))


def _refuse_without_weights(architecture: str) -> None:
    from open_clip.pretrained import list_pretrained_tags_by_model

    tags = [f"{architecture}/{tag}" for tag in list_pretrained_tags_by_model(architecture)]
    raise XgapError(
        f"{architecture!r} is an architecture without weights; say which: {', '.join(tags[:4])}"
        f"{', ' if tags else ''}{architecture}//path/to/weights.safetensors, or {architecture}/{RANDOM} as a control"
    )


def _checkpoint(architecture: str, file: str, activation: str | None, built_quick: bool, needs_hub: bool) -> _Source:
    if Path(file).suffix not in CHECKPOINTS or not Path(file).is_file():
        raise XgapError(f"there is no checkpoint {file} (one of {', '.join(CHECKPOINTS)} is read)")
    if activation is None and not built_quick:
        raise XgapError(
            f'{file} does not say what it was trained with: pass activation="quickgelu" (OpenAI\'s weights and those '
            'tuned from them) or activation="gelu"'
        )
    return _Source(architecture, file, quick_gelu=activation == "quickgelu", needs_hub=needs_hub)


def _pretrained(architecture: str, tag: str, activation: str | None, built_quick: bool) -> _Source:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    trained = get_pretrained_cfg(architecture, tag)
    if not trained:
        raise unknown_name(f"weights of {architecture}", tag, [*list_pretrained_tags_by_model(architecture), RANDOM])
    quick = bool(trained.get("quick_gelu"))
    if (built_quick and not quick) or (activation is not None and (activation == "quickgelu") != quick):
        raise XgapError(
            f"{architecture}/{tag} was trained with {'QuickGELU' if quick else 'GELU'}; with another activation its "
            "features would be wrong, so it is not loaded"
        )
    tokens = OVI_TOKENS.get(f"{architecture.removesuffix('-quickgelu')}/{tag}")
    return _Source(architecture, tag, quick_gelu=quick, settings={} if tokens is None else {"ovi_tokens": tokens})


def _create(source: _Source, device: torch.device, cache_dir: str | Path | None) -> tuple[Any, Any, Any]:
    import open_clip

    cache = None if cache_dir is None else str(cache_dir)
    tokenize = open_clip.get_tokenizer(source.architecture, cache_dir=cache)  # small, so it is the first to fail
    common = {"device": device, "force_quick_gelu": source.quick_gelu, "cache_dir": cache}
    if source.random:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, _, preprocess = open_clip.create_model_and_transforms(
                source.architecture, pretrained_text=False, **common
            )
    else:
        model, preprocess = open_clip.create_model_from_pretrained(
            source.architecture, pretrained=source.weights, weights_only=True, **common
        )
    return model, preprocess, tokenize


@contextlib.contextmanager
def _network(needed: bool) -> Iterator[bool]:
    """Says whether the hub answers; where it does not, its libraries read their cache, without minutes of retries."""
    from huggingface_hub import constants, get_session

    before, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    reachable = False
    if needed and not before:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            reachable = True
        except Exception as error:  # whichever HTTP library the hub's client stands on has errors of its own
            logging.getLogger(__name__).info("the hub does not answer (%r); only its cache is read", error)
    constants.HF_HUB_OFFLINE = not reachable
    socket.setdefaulttimeout(patience or PATIENCE)
    try:
        yield reachable
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(patience)


@contextlib.contextmanager
def _told(name: str, source: _Source, reachable: bool) -> Iterator[None]:
    """Turns what open_clip and its libraries raise into one sentence."""
    try:
        yield
    except LIBRARY_ERRORS as error:
        reason = re.sub(r"\s+", " ", str(error))[:300]
        if source.needs_hub and not reachable:
            own = ", ".join(embedded_models()) or "none"
            raise XgapError(
                f"the Hugging Face hub cannot be reached, and its cache does not hold all of {name!r}; without a "
                f"network load an embedded model ({own}), 'local-dir:/path' or 'ARCHITECTURE//path/to/file.safetensors'"
            ) from error
        raise XgapError(f"model {name!r} cannot be loaded: {reason}") from error
