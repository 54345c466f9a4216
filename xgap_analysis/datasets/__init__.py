"""Data sets by name."""

from xgap_analysis.datasets.emoji import load_emoji
from xgap_analysis.datasets.records import Dataset as Dataset
from xgap_analysis.datasets.records import Images as Images
from xgap_analysis.datasets.records import Relevance as Relevance
from xgap_analysis.datasets.records import Texts as Texts
from xgap_analysis.errors import unknown_name

DATASETS = {"emoji": "embedded: one emoji concept drawn by several artists, with names and keywords (emoji:de, ...)"}


def load_dataset(name: str) -> Dataset:
    """A data set by name: `"emoji"`, or `"emoji:<language>"` with the names in another language as text queries.

    Raises:
        XgapError: an unknown name (the nearest names are offered).
    """
    base, _, language = name.partition(":")
    if base != "emoji":
        raise unknown_name("data set", name, DATASETS)
    return load_emoji(language or "en")
