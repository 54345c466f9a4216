"""Datasets by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.relevance import Relevance as Relevance
from xgap_analysis.datasets.dataset import Dataset as Dataset
from xgap_analysis.datasets.embedded.emoji import load_emoji
from xgap_analysis.datasets.embedded.pieces import load_pieces
from xgap_analysis.datasets.embedded.spoken import load_spoken
from xgap_analysis.datasets.embedded.triples import load_triples
from xgap_analysis.datasets.items import Images as Images
from xgap_analysis.datasets.items import Texts as Texts
from xgap_analysis.datasets.local.objects import as_dataset as as_dataset
from xgap_analysis.datasets.local.own import is_own, load_own
from xgap_analysis.datasets.published.captions import load_karpathy, load_nocaps
from xgap_analysis.datasets.published.coop import load_aircraft, load_coop, load_imagenet
from xgap_analysis.datasets.published.documents import load_documents
from xgap_analysis.datasets.published.dogs_cats import load_dogs_cats
from xgap_analysis.datasets.published.landmarks import load_landmarks
from xgap_analysis.datasets.published.posts import load_imdb, load_newsgroups
from xgap_analysis.datasets.published.products import load_cub, load_sop
from xgap_analysis.datasets.published.protocols import PROTOCOLS, Protocol, data_folder

EMBEDDED = {
    "emoji": "embedded: one emoji concept drawn by several artists, with names and keywords (emoji:de, ...)",
    "emoji-spoken": "embedded: names of emoji in several voices, with written names and images (also :m3, :pieces)",
}
FURTHER = {"emoji-spoken": ("audio",)}  # embedded datasets with modalities beside images and texts
DATASETS = EMBEDDED | {name: protocol.about for name, protocol in PROTOCOLS.items()}
SPOKEN = {"": load_spoken, "m3": load_triples, "pieces": load_pieces}  # what follows the colon in emoji-spoken:...
LOADERS: dict[str, Callable[[str, Protocol, Path], Dataset]] = {
    "aircraft": load_aircraft,
    "coop": load_coop,
    "cub": load_cub,
    "documents": load_documents,
    "dogs-cats": load_dogs_cats,
    "imagenet": load_imagenet,
    "imdb": load_imdb,
    "karpathy": load_karpathy,
    "landmarks": load_landmarks,
    "newsgroups": load_newsgroups,
    "nocaps": load_nocaps,
    "sop": load_sop,
}


def load_dataset(name: str, root: Path | str | None = None, **options: Any) -> Dataset:
    """A data set by name (see `DATASETS` or `xgap datasets`), in the split that the paper judges; or your own by path.

    `"emoji"` is embedded; `"emoji:<language>"` has the names in another language as text queries. The published data
    sets are read as they lie in their usual folders under `root`, and come in their split `"test"`: the paper's
    protocol, query and gallery together (`PROTOCOLS`; train images are searched there, where the paper does so). Other
    parts come by `split("train")` and the like. Images are opened when they are needed, and what is computed
    from them is found again by their content.

    Your own data is named by a path with a slash in it, or one that exists: a folder of pictures, one folder a class
    (`folder:`); a table of images and captions, `.csv`, `.tsv`, `.jsonl` or `.parquet` (`pairs:`); WebDataset shards
    (`wds:`); a Hugging Face data set on disk (`hf:`). The prefix says which, where that is not plain. All of it is
    split `all`; what is judged, `test`, is the part of that name, or else the part `val`, or else everything. For an
    object of torchvision or the like, see `as_dataset`.

    Args:
        name: of the data set, or its path.
        root: the folder of published data sets; by default the environment variable XGAP_DATA.
        options: of own data: `train_share=0.5` cuts a split `train` off, by a hash of the ids, where there is none;
            `image`, `caption`, `label`, `split` and `id` name the columns of a table, and `images` the folder that its
            paths are in, where that is not the table's own.

    Raises:
        XgapError: an unknown name (the nearest names are offered), no root, or something missing in it.
    """
    base, _, variant = name.partition(":")
    known = base in EMBEDDED or name in PROTOCOLS
    if not known and is_own(name):
        return load_own(name, **options)
    if options:
        what = f"options ({', '.join(options)}) are for own data"
        raise XgapError(f"{what}, which is named by its path; {name!r} is not one")
    if base == "emoji":
        return load_emoji(variant or "en")
    if base == "emoji-spoken":
        if variant not in SPOKEN:
            raise unknown_name("part of emoji-spoken", variant, SPOKEN)
        return SPOKEN[variant]()
    if name not in PROTOCOLS:
        raise unknown_name("data set", name, DATASETS)
    folder = data_folder(root)
    if folder is None:
        what = f"data set {name!r} is read from disk"
        raise XgapError(f"{what}: name the folder of your data sets as root, or in the environment variable XGAP_DATA")
    protocol = PROTOCOLS[name]
    return LOADERS[protocol.family](name, protocol, protocol.found(name, folder))
