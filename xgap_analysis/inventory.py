"""What is at hand: models, data sets, and whether this machine has all that the embedded default needs."""

import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from xgap_analysis.embedded import data_root
from xgap_analysis.errors import XgapError

DEFAULT_MODELS = ("tiny", "tiny-intra", "tiny-nogap", "tiny-image", "tiny-untrained")


def models() -> list[dict[str, Any]]:
    """The embedded models: name, number of parameters, input size, feature dimensions, description, whether at hand.

    The description is what the model's configuration (`xgap_analysis.description`) or the first paragraph of its
    README says.
    """
    rows = []
    names = {path.parent.name for path in (data_root() / "models").glob("*/open_clip_config.json")}
    for name in sorted(names | set(DEFAULT_MODELS)):
        folder = data_root() / "models" / name
        weights = folder / "open_clip_model.safetensors"
        config = json.loads((folder / "open_clip_config.json").read_text("utf-8")) if name in names else {}
        shape = config.get("model_cfg", {})
        rows.append(
            {
                "model": name,
                "at_hand": weights.is_file(),
                "parameters": _count_parameters(weights) if weights.is_file() else None,
                "image_size": shape.get("vision_cfg", {}).get("image_size"),
                "dimensions": shape.get("embed_dim"),
                "description": config.get("xgap_analysis", {}).get("description") or _first_paragraph(folder),
            }
        )
    return rows


def pretrained() -> list[dict[str, Any]]:
    """open_clip's pretrained models, by the name that loads them, and whether the hub's cache here has their weights.

    No network is used.
    """
    import open_clip
    from huggingface_hub import try_to_load_from_cache
    from open_clip.pretrained import get_pretrained_cfg

    rows = []
    for architecture, tag in open_clip.list_pretrained():
        repository, _, file = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")
        files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        found = bool(repository) and any(isinstance(try_to_load_from_cache(repository, f), str) for f in files)
        rows.append({"model": f"{architecture}/{tag}", "at_hand": found})
    return rows


def datasets(root: Path | str | None = None) -> list[dict[str, Any]]:
    """The data sets by name: the paper's protocol, whether they are on disk, and for a missing one what to put where.

    Nothing is read but whether files are there.

    Args:
        root: the folder of data sets; by default the environment variable XGAP_DATA.
    """
    from xgap_analysis.datasets import EMBEDDED
    from xgap_analysis.datasets.protocols import PROTOCOLS, ROOT_VARIABLE, data_folder

    about = {"queries": "by split", "gallery": "by split", "relevance": "same concept", "prompt": "a photo of {}"}
    rows: list[dict[str, Any]] = [
        {"dataset": name, "at_hand": True, "about": said, **about, "folder": None, "missing": {}}
        for name, said in EMBEDDED.items()
    ]
    folder = data_folder(root)
    for name, protocol in PROTOCOLS.items():
        missing = protocol.missing(folder or Path("$" + ROOT_VARIABLE))
        rows.append(
            {
                "dataset": name,
                "at_hand": not missing,
                "about": protocol.about,
                "queries": protocol.queries,
                "gallery": protocol.gallery,
                "relevance": protocol.relevance,
                "prompt": protocol.prompt,
                "folder": None if folder is None else str(protocol.folder(folder)),
                "missing": missing,
            }
        )
    return rows


def splits(names: Sequence[str], root: Path | str | None = None) -> list[dict[str, Any]]:
    """These data sets, split by split: numbers of items, of those that ask in retrieval, and of labels by level.

    Raises:
        XgapError: as `load_dataset`.
    """
    from xgap_analysis.datasets import load_dataset

    rows = []
    for name in names:
        whole = load_dataset(name, root)
        for split in whole.splits:
            data = whole.split(split)
            counts = {"images": len(data.images), "texts": len(data.texts)}
            asking = {"image_queries": len(data.queries("image")), "text_queries": len(data.queries("text"))}
            labels = {level: len(set(of.values())) for level, of in data.labels.items()}
            judged = {level: len(relevance.qrels or {}) for level, relevance in data.judgements.items()}
            rows.append({"dataset": name, "split": split, **counts, **asking, "labels": labels, "judged": judged})
    return rows


def checks() -> list[dict[str, Any]]:
    """What the embedded default needs, one row each: what was looked at, whether it is right, what was found."""
    looks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("device", _device),
        ("data set emoji", _emoji),
        ("embedded models", _embedded),
        ("feature store", _store),
        ("network", lambda: "not needed for the embedded default"),
    ]
    rows = []
    for name, look in looks:
        try:
            rows.append({"check": name, "ok": True, "found": look()})
        except (XgapError, OSError, ImportError) as error:
            rows.append({"check": name, "ok": False, "found": " ".join(str(error).split())})
    return rows


def _python() -> str:
    return f"{platform.python_version()} on {platform.platform(terse=True)}"


def _packages() -> str:
    import open_clip
    import torch

    try:
        own = metadata.version("xgap-analysis")
    except metadata.PackageNotFoundError:
        own = "(not installed)"
    return f"xgap-analysis {own}, torch {torch.__version__}, open_clip {open_clip.__version__}"


def _device() -> str:
    import torch

    threads = f"CPU with {torch.get_num_threads()} of {os.cpu_count()} threads"
    if not torch.cuda.is_available():
        return threads
    gpu = torch.cuda.get_device_properties(0)
    return f"CUDA {torch.version.cuda}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB; {threads}"


def _emoji() -> str:
    root = data_root() / "emoji"
    lines = [line.split("  ", 1) for line in (root / "SHA256SUMS").read_text("utf-8").splitlines()]
    for digest, name in lines:
        if not (root / name).is_file():
            raise XgapError(f"{root / name} is missing; restore it from the repository")
        if sha256((root / name).read_bytes()).hexdigest() != digest:
            raise XgapError(f"{root / name} is not the file that SHA256SUMS records; restore it from the repository")
    return f"{len(lines)} files as SHA256SUMS records them, in {root}"


def _embedded() -> str:
    missing = [row["model"] for row in models() if not row["at_hand"]]
    if missing:
        raise XgapError(f"{', '.join(missing)} missing from {data_root() / 'models'}; restore from the repository")
    return f"{', '.join(row['model'] for row in models())} in {data_root() / 'models'}"


def _store() -> str:
    from xgap_analysis.store import Store

    root = Store().root
    standing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=standing):
            pass
    except OSError as error:
        what = f"{root} cannot be written ({error.strerror or error})"
        raise XgapError(f"{what}; set XGAP_HOME to another folder") from error
    return f"{root} can be written; {shutil.disk_usage(standing).free / 2**30:.1f} GiB are free"


def _count_parameters(weights: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    from safetensors import safe_open

    with safe_open(weights, framework="np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  the file is no mapping
    return sum(math.prod(shape) for shape in shapes)


def _first_paragraph(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        return ""
    paragraphs = [p for p in card.read_text("utf-8").split("\n\n") if p.strip() and not p.startswith(("#", "---"))]
    return " ".join(paragraphs[0].split()) if paragraphs else ""
