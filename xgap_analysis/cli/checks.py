"""Whether this machine has all that the embedded default needs."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.datasets.embedded.files import checked, recorded
from xgap_analysis.models.inventory import models


def checks() -> list[dict[str, Any]]:
    """What the embedded default needs, one row each: what was looked at, whether it is right, what was found."""
    looks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("device", _device),
        ("dataset emoji", _emoji),
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
    from xgap_analysis.models.precision import tf32

    gpu, rounding = torch.cuda.get_device_properties(0), "on" if tf32() else "off"
    memory = f"{gpu.total_memory / 2**30:.0f} GiB"
    return f"CUDA {torch.version.cuda}: {gpu.name}, {memory}, TF32 {rounding}; {threads}"


def _emoji() -> str:
    root = data_root() / "emoji"
    names = recorded(root)
    for name in names:
        checked(root, name)
    return f"{len(names)} files as SHA256SUMS records them, in {root}"


def _embedded() -> str:
    missing = [row["model"] for row in models() if not row["available"]]
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
