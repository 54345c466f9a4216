"""Data sets by name."""

from collections.abc import Callable
from pathlib import Path

from xgap_analysis.datasets.emoji import load_emoji
from xgap_analysis.datasets.protocols import PROTOCOLS, Protocol, data_folder
from xgap_analysis.datasets.records import Dataset as Dataset
from xgap_analysis.datasets.records import Images as Images
from xgap_analysis.datasets.records import Relevance as Relevance
from xgap_analysis.datasets.records import Texts as Texts
from xgap_analysis.errors import XgapError, unknown_name

EMBEDDED = {"emoji": "embedded: one emoji concept drawn by several artists, with names and keywords (emoji:de, ...)"}
DATASETS = EMBEDDED | {name: protocol.about for name, protocol in PROTOCOLS.items()}
LOADERS: dict[str, Callable[[str, Protocol, Path], Dataset]] = {}


def load_dataset(name: str, root: Path | str | None = None) -> Dataset:
    """A data set by name (see `DATASETS`, or `xgap datasets`), in the split that the paper judges.

    `"emoji"` is embedded; `"emoji:<language>"` has the names in another language as text queries. The published data
    sets are read as they lie in their usual folders under `root`; `split("train")` and the like give their other
    parts.

    Args:
        name: of the data set.
        root: the folder of data sets; by default the environment variable XGAP_DATA.

    Raises:
        XgapError: an unknown name (the nearest names are offered), no root, or something missing in it.
    """
    base, _, variant = name.partition(":")
    if base == "emoji":
        return load_emoji(variant or "en")
    if name not in PROTOCOLS:
        raise unknown_name("data set", name, DATASETS)
    folder = data_folder(root)
    if folder is None:
        what = f"data set {name!r} is read from disk"
        raise XgapError(f"{what}: name the folder of your data sets as root, or in the environment variable XGAP_DATA")
    protocol = PROTOCOLS[name]
    return LOADERS[protocol.family](name, protocol, protocol.found(name, folder))
