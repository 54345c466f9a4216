"""The model hubs, that may be out of reach: asked once, told of in one sentence, quiet otherwise."""

import contextlib
import logging
import pickle
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from xgap_analysis.errors import XgapError

PATIENCE = 5.0  # seconds for a first answer of the hub; without one only its cache is read, and nothing is retried


@contextlib.contextmanager
def network(needed: bool) -> Iterator[bool]:
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
def quiet() -> Iterator[None]:
    """Within, what open_clip says through the root logger is dropped: its errors are raised too, and told then."""
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return Path(record.pathname).parent.name != "open_clip"

    silent = logging.NullHandler()  # without any handler, the first message through the root logger installs one
    root.addHandler(silent)
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
        root.removeHandler(silent)


@contextlib.contextmanager
def told(name: str, *, unreachable: str | None) -> Iterator[None]:
    """Turns what the model libraries raise into one sentence.

    Args:
        name: of the model.
        unreachable: the names that need no network, where a hub was needed and did not answer; else None.
    """
    try:
        yield
    except XgapError:
        raise
    except Exception as error:  # the libraries' checks of files and configurations raise kinds of their own
        if unreachable is not None:
            raise XgapError(
                f"the Hugging Face hub cannot be reached, and its cache does not hold all of {name!r}; without a "
                f"network load {unreachable}"
            ) from error
        raise XgapError(f"model {name!r} cannot be loaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    said = re.sub(r"\s+", " ", str(error))
    if isinstance(error, pickle.UnpicklingError):  # torch's own message shows how to run the code of the file
        foreign = re.search(r"GLOBAL (\S+)", said)
        what = f"it holds {foreign[1]}" if foreign else "it is damaged, or no checkpoint"
        said = f"{what}, and from a pickled file tensors and plain containers alone are read"
    if "positional_embedding_res" in said:
        return "it is a Long-CLIP file, to be named LongCLIP-ViT-B-16//path/to/file.pt (or LongCLIP-ViT-L-14)"
    hint = (
        "; if it is a SLIP checkpoint, name it SLIP-ViT-B-16//path/to/file.pt" if "argparse.Namespace" in said else ""
    )
    return said[:300] + hint


__all__ = ["network", "quiet", "told"]
