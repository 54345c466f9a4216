"""Datasets by name."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from xgap_analysis.core.calls import options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.registry import Registry, check_options, check_word, summary_of
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.clips import load_clips
from xgap_analysis.datasets.embedded.emoji import load_emoji
from xgap_analysis.datasets.embedded.parallel import VARIANT, load_parallel
from xgap_analysis.datasets.embedded.pieces import load_pieces
from xgap_analysis.datasets.embedded.scenes import load_scenes
from xgap_analysis.datasets.embedded.sound_clips import load_sound_clips
from xgap_analysis.datasets.embedded.spoken import load_spoken
from xgap_analysis.datasets.embedded.triples import load_triples
from xgap_analysis.datasets.local.own import is_own, load_own, with_options
from xgap_analysis.datasets.published.captions import load_karpathy, load_nocaps
from xgap_analysis.datasets.published.coop import load_aircraft, load_coop, load_imagenet
from xgap_analysis.datasets.published.documents import load_documents
from xgap_analysis.datasets.published.dogs_cats import load_dogs_cats
from xgap_analysis.datasets.published.landmarks import load_landmarks
from xgap_analysis.datasets.published.posts import load_imdb, load_newsgroups
from xgap_analysis.datasets.published.products import load_cub, load_sop
from xgap_analysis.datasets.published.protocols import PROTOCOLS, Protocol, data_folder

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


LEADING = 0  # all parameters of a dataset's function are options


@dataclass(frozen=True)
class Entry:
    """A dataset that is known by name.

    Args:
        function: makes it.
        about: what it is, in one line.
        modalities: of its items, for what is checked before it is read.
        relevance: what makes two items relevant to each other, in a few words; empty where nothing says.
    """

    function: Callable[..., Dataset]
    about: str
    modalities: tuple[str, ...]
    relevance: str = ""


DATASETS: Registry[Entry] = Registry("dataset", lambda entry: entry.function)


def register_dataset(
    name: str, *, about: str = "", modalities: Sequence[str] = ("image", "text"), relevance: str = ""
) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Make a dataset known by name to studies, the command line, the widgets and the notebooks.

    The decorated function gives a `Dataset` (with its other splits in `splits`). Its parameters are options, written
    `"name(option=value)"`; the first may be written after a colon (`"name:value"`). One that is called `root` gets the
    folder of published datasets. Where options are written so, and the `Dataset` has the registered name all the same,
    it gets the notation as its name.

    Args:
        name: as in tables.
        about: one line for `xgap datasets`; by default the first sentence of the function's docstring.
        modalities: of its items.
        relevance: what makes two items relevant to each other, in a few words for `xgap datasets` ("same scene").

    Raises:
        XgapError: the name is taken by other code, or is not one word.

    Example:
        >>> import xgap_analysis as xg
        >>> from PIL import Image
        >>> @xg.register_dataset("plain")
        ... def plain(size: int = 8):
        ...     images = xg.Images(["red", "blue"], lambda i: Image.new("RGB", (size, size), i), f"plain {size}")
        ...     return xg.Dataset("plain", "test", images, labels={"colour": {"red": "red", "blue": "blue"}})
        >>> xg.load_dataset("plain(size=16)").images[0].size
        (16, 16)
        >>> DATASETS.remove("plain")  # for this example only
    """
    check_word("dataset", name)
    if name in PROTOCOLS:
        raise XgapError(f"there is a published dataset named {name!r} already; register yours under another name")

    def add(function: Callable[..., Dataset]) -> Callable[..., Dataset]:
        said = about or summary_of(function)
        DATASETS.add(name, Entry(function, said, tuple(modalities), relevance))
        return function

    return add


def _emoji(language: str = "en") -> Dataset:
    return load_parallel() if language == VARIANT else load_emoji(language)


register_dataset(
    "emoji",
    about="embedded: one emoji concept drawn by several artists, with names and keywords (emoji:de, emoji:parallel)",
    relevance="same concept",
)(_emoji)
register_dataset(
    "emoji-scenes",
    about="embedded: scenes of one to four emoji with boxes and captions (emoji-scenes:twins, :composed, :documents)",
    modalities=("image", "text", "document"),
    relevance="same scene; an edit and its results (:composed); a query and its document (:documents)",
)(load_scenes)
register_dataset(
    "emoji-clips",
    about="embedded: clips of one to three events, drawn from emoji, with a caption per event and their times",
    modalities=("text", "video", "chain"),
    relevance="same clip",
)(load_clips)
register_dataset(
    "emoji-spoken",
    about="embedded: names of emoji spoken by six voices, beside written names and images",
    modalities=("image", "text", "audio"),
    relevance="same concept",
)(load_spoken)
register_dataset(
    "emoji-m3",
    about="embedded: triples of a text in five languages, a spoken word that picks one of its words, and its drawing",
    modalities=("image", "text", "audio"),
    relevance="same triple",
)(load_triples)
register_dataset(
    "emoji-pieces",
    about="embedded: ten spoken names one after the other, and the strip of their drawings",
    modalities=("image", "audio"),
    relevance="same piece",
)(load_pieces)
register_dataset(
    "emoji-sound-clips",
    about="embedded: the clips of emoji-clips with sound, in which each event is named while it lasts",
    modalities=("text", "video", "chain", "audio"),
    relevance="same clip",
)(load_sound_clips)


def load_dataset(name: str | Path, root: Path | str | None = None, **options: Any) -> Dataset:
    """A dataset by name (see `xgap datasets`), in the split that the paper evaluates; or your own by path.

    `"emoji"` is embedded; `"emoji:<language>"` has the names in another language as text queries, `"emoji:parallel"`
    has them in 13 languages side by side. `"emoji-scenes"` has scenes of several things (`"emoji-scenes:<task>"`: hard
    negatives, composed queries, documents), `"emoji-clips"` clips of several events, and `"emoji-spoken"` names as
    sound (with `"emoji-m3"`, `"emoji-pieces"` and `"emoji-sound-clips"` made from it). A registered name works
    too (see `register_dataset`). Published datasets are read from their usual folders under `root`, in their split
    `"test"`: the paper's protocol, query and gallery together (`PROTOCOLS`; the gallery has the train images where the
    paper does so). `split("train")` and the like give other parts. Images are opened when they are needed, and what is
    computed from them is stored under a digest of their content.

    Your own data is named by a path with a slash in it, or one that exists: a folder of images, one folder per class
    (`folder:`); a table of images and captions, `.csv`, `.tsv`, `.jsonl` or `.parquet` (`pairs:`); WebDataset shards
    (`wds:`); a Hugging Face dataset on disk (`hf:`); queries, a corpus of texts, images and both, and qrels, as
    MixBench and MTEB have them (`mixed-jsonl:`, see `load_mixed`). Use the prefix where the path does not show the
    format. The split `all` has everything; `test`, which is evaluated, is the part of that name, or else the part
    `val`, or else everything. For an object of torchvision or the like, see `as_dataset`.

    Args:
        name: of the dataset, or its path.
        root: the folder of published datasets; by default the environment variable XGAP_DATA.
        options: of a registered dataset: those of its function. Of your own data: `train_share=0.5` makes a split
            `train`, by a hash of the ids, where there is none; `image`, `caption`, `label`, `split` and `id` name the
            columns of a table, and `images` the folder that its paths are in, where that is not the table's own. They
            may stand in the name: `"/my/folder(train_share=0.5)"`.

    Raises:
        XgapError: an unknown name (with the nearest ones), no root, or something missing in it.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji").split("test")
        >>> len(data.images), len(set(data.labels_of("concept").values())), sorted(data.splits)
        (1944, 335, ['seen', 'test', 'train', 'val'])
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise XgapError(f"a dataset is loaded by its name or its path, and {name!r} is neither")
    name = str(name.absolute()) if isinstance(name, Path) else name
    known = _known(name)
    if known is not None:
        return _made(name, *known, root, options)
    if name not in PROTOCOLS and is_own(name):
        path, own = with_options(name)
        given = {**own, **options}
        made = load_own(path, **given)
        return _named(made, made.name, spelled(made.name, (), {key: given[key] for key in own})) if own else made
    if options:
        what = f"options ({', '.join(options)}) are for own data"
        raise XgapError(f"{what}, which is named by its path; {name!r} is not one")
    if name not in PROTOCOLS:
        raise unknown_name("dataset", name, {*DATASETS, *PROTOCOLS})
    folder = data_folder(root)
    if folder is None:
        what = f"dataset {name!r} is read from disk"
        raise XgapError(f"{what}: name the folder of your datasets as root, or in the environment variable XGAP_DATA")
    protocol = PROTOCOLS[name]
    return LOADERS[protocol.family](name, protocol, protocol.found(name, folder))


def modalities_of(name: str) -> tuple[str, ...]:
    """The modalities of the items of a dataset by name, without reading it; images and texts where nothing says."""
    known = _known(name)
    return ("image", "text") if known is None else DATASETS[known[0]].modalities


def is_embedded(name: str) -> bool:
    """Whether a dataset of this name, options included, comes with the package.

    Example:
        >>> from xgap_analysis.datasets.catalog import is_embedded
        >>> is_embedded("emoji:de"), is_embedded("my photos")
        (True, False)
    """
    base = re.split("[:(]", name, maxsplit=1)[0]
    return base in DATASETS and DATASETS[base].function.__module__.startswith(f"{__name__.partition('.')[0]}.")


def _known(name: str) -> tuple[str, dict[str, Any]] | None:
    """A registered name and the options in its notation: `"name"`, `"name:variant"` or `"name(option=value)"`."""
    if name in DATASETS:
        return name, {}
    base, colon, value = name.partition(":")
    if colon and base in DATASETS:
        first = next((p for p in inspect.signature(DATASETS[base].function).parameters if p != "root"), None)
        if first is None:
            raise XgapError(f"dataset {base!r} has no variants; {name!r} names one")
        return base, {first: value} if value else {}
    base = name.partition("(")[0]
    if base in DATASETS and name.endswith(")"):
        return base, options_alone(parse(name), "a dataset")
    return None


def _made(name: str, base: str, own: dict[str, Any], root: Path | str | None, options: dict[str, Any]) -> Dataset:
    function = DATASETS[base].function
    given = {**own, **options}
    check_options("dataset", base, function, LEADING, given)
    if root is not None and "root" in inspect.signature(function).parameters:
        given["root"] = root
    made = function(**given)
    if not isinstance(made, Dataset):
        raise XgapError(f"the function of dataset {base!r} gave {type(made).__name__}; it gives a Dataset")
    defaults = {key: str(p.default) for key, p in inspect.signature(function).parameters.items()}
    has_options = any(str(value) != defaults.get(key) for key, value in own.items())
    return _named(made, base, name) if has_options else made


def _named(made: Dataset, base: str, name: str) -> Dataset:
    """A dataset and its splits named with their options, so that tables distinguish `mine(size=3)` from
    `mine(size=5)`; a name other than `base`, given by its function, is kept.
    """
    splits = {split: cache(partial(_named_split, make, base, name)) for split, make in made.splits.items()}
    return replace(made, name=name if made.name == base else made.name, splits=splits)


def _named_split(make: Callable[[], Dataset], base: str, name: str) -> Dataset:
    return _named(make(), base, name)
