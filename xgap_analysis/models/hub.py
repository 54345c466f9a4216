"""The model hubs, which may be unreachable: tried once, and reported in one sentence.

Whether the network may be used is passed to each call. The libraries' own switches for it apply to the whole process,
in which another thread may be downloading, so they are left alone.
"""

import contextlib
import logging
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from xgap_analysis.core.errors import XgapError

PATIENCE = 5.0  # seconds for a first response of the hub; without one only its cache is read, and nothing is retried


def reachable() -> bool:
    """Whether the hub can be reached."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # whichever HTTP library the hub's client stands on has errors of its own
        logging.getLogger(__name__).info("the hub does not respond (%r); only its cache is read", error)
        return False
    return True


def fetched(repository: str, files: Sequence[str], cache: str | None, online: bool) -> Path:
    """The first of these files that a repository of the hub has, from the cache where it is there.

    Args:
        repository: `"org/name"`.
        files: names in it, the preferred one first.
        cache: the folder of downloads; None for the library's own.
        online: False reads the cache alone.

    Raises:
        FileNotFoundError: it has none, or the cache has none and the network is not to be used.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        try:
            return Path(
                hf_hub_download(repository, file, cache_dir=cache, local_files_only=not online, etag_timeout=PATIENCE)
            )
        except LocalEntryNotFoundError:
            if online:  # the network went away meanwhile
                raise
        except EntryNotFoundError:
            continue
    where = "the hub" if online else "the hub's cache"
    raise FileNotFoundError(f"{repository} in {where} holds none of {', '.join(files)}")


@contextlib.contextmanager
def readable_errors(name: str, *, unreachable: str | None) -> Iterator[None]:
    """Turn errors of the model libraries into one readable sentence.

    Args:
        name: of the model.
        unreachable: the names that need no network, where a hub was needed and did not respond; else None.
    """
    try:
        yield
    except XgapError:
        raise
    except Exception as error:  # the libraries' checks of files and configurations raise exceptions of their own
        if unreachable is not None:
            raise XgapError(
                f"the Hugging Face hub cannot be reached, and its cache does not hold all of {name!r}; without a "
                f"network load {unreachable}"
            ) from error
        raise XgapError(f"model {name!r} cannot be loaded: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """What a library's error says, as the end of a sentence."""
    said = re.sub(r"\s+", " ", str(error))
    if isinstance(error, KeyError):
        return f"{said} is not there"
    if isinstance(error, pickle.UnpicklingError):  # torch's own message shows how to run the code of the file
        foreign = re.search(r"GLOBAL (\S+)", said)
        what = f"it holds {foreign[1]}" if foreign else "it is damaged, or no checkpoint"
        said = f"{what}, and from a pickled file tensors and plain containers alone are read"
    if "positional_embedding_res" in said:
        return "it is a Long-CLIP file, to be named LongCLIP-ViT-B-16//path/to/file.pt (or LongCLIP-ViT-L-14)"
    if "visual.blocks.0." in said:  # timm's names, under which SLIP keeps its image tower
        return "by its names it is a SLIP checkpoint, to be named SLIP-ViT-B-16//path/to/file.pt"
    return said[:300]


__all__ = ["PATIENCE", "fetched", "reachable", "readable_errors", "reason_of"]
