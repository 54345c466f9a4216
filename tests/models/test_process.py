"""Loading leaves the process as it was, and threads that load beside each other do not disturb one another."""

import logging
import os
import random
import signal
import socket
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import load_model
from xgap_analysis.models.trainable import load_trainable


def process_state() -> dict[str, Any]:
    """What the whole process shares, and a library might turn."""
    from huggingface_hub import constants

    root, backends = logging.getLogger(), torch.backends
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002  numpy's shared generator
    return {
        "socket": socket.getdefaulttimeout(),
        "offline": constants.HF_HUB_OFFLINE,
        "logging": (list(root.handlers), list(root.filters), root.level, root.manager.disable),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "environment": dict(os.environ),
        "torch": (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            (backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32),
            len(torch.serialization.get_safe_globals()),
        ),
        "random": (torch.get_rng_state().tolist(), random.getstate(), legacy),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "path": (list(sys.path), str(Path.cwd()), sys.excepthook),
    }


NAMES = ["tiny", "tiny-image", "ViT-S-32-alt/random", "timm:vit_tiny_patch16_224/random"]


@pytest.fixture(autouse=True)
def _libraries() -> None:
    import open_clip  # noqa: F401  what importing a library does is its own
    import timm  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401


@pytest.mark.parametrize("name", [*NAMES, "hf-hub:nobody/nothing", "ViT-B-32/openai"])
def test_loading_changes_nothing_that_the_process_shares(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        during.append(process_state())
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    from huggingface_hub import constants

    during: list[dict[str, Any]] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whatever the environment says
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    if name in NAMES:
        load_model(name, device="cpu")  # what a library keeps of its first use is its own
    before = process_state()
    if name in NAMES:
        load_model(name, device="cpu")
    else:
        with pytest.raises(XgapError, match="cannot be reached"):
            load_model(name, cache_dir=tmp_path)
    assert process_state() == before
    assert [state for state in during if state != before] == []


def test_loading_to_train_changes_nothing_either() -> None:
    load_trainable("tiny", device="cpu", scratch=True)
    before = process_state()
    load_trainable("tiny", device="cpu", scratch=True, seed=3)
    assert process_state() == before


def test_threads_that_load_together_load_the_same() -> None:
    before = process_state()
    names = ["ViT-S-32-alt/random", "tiny"] * 3
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda name: load_model(name, device="cpu").weights_digest, names))
    assert digests == [load_model(name, device="cpu").weights_digest for name in names]
    assert process_state() == before
