"""Which datasets are available, and what a published one needs on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def datasets(root: Path | str | None = None) -> list[dict[str, Any]]:
    """The datasets by name: the paper's protocol, whether they are on disk, and for a missing one what to put where.

    Nothing is read but whether files are there.

    Args:
        root: the folder of datasets; by default the environment variable XGAP_DATA.
    """
    from xgap_analysis.datasets import DATASETS
    from xgap_analysis.datasets.published.protocols import PROTOCOLS, ROOT_VARIABLE, data_folder

    about = {"queries": "by split", "gallery": "by split", "prompt": "a photo of {}"}
    rows: list[dict[str, Any]] = [
        {
            "dataset": name,
            "available": True,
            "about": entry.about,
            **about,
            "relevance": entry.relevance or "by label",
            "folder": None,
            "missing": {},
        }
        for name, entry in DATASETS.items()
    ]
    folder = data_folder(root)
    for name, protocol in PROTOCOLS.items():
        missing = protocol.missing(folder or Path("$" + ROOT_VARIABLE))
        rows.append(
            {
                "dataset": name,
                "available": not missing,
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


def splits(names: Sequence[str]) -> list[dict[str, Any]]:
    """The splits of these datasets: numbers of items, of queries in retrieval, and of labels by label set.

    Raises:
        XgapError: as `load_dataset`.
    """
    from xgap_analysis.datasets import load_dataset

    rows = []
    for name in names:
        whole = load_dataset(name)
        for split in whole.splits:
            data = whole.split(split)
            counts = {"images": len(data.images), "texts": len(data.texts)}
            queries = {"image_queries": len(data.queries("image")), "text_queries": len(data.queries("text"))}
            labels = {label_set: len(set(of.values())) for label_set, of in data.labels.items()}
            judgements = {label_set: len(relevance.qrels or {}) for label_set, relevance in data.judgements.items()}
            row = {"dataset": name, "split": split, **counts, **queries, "labels": labels, "judgements": judgements}
            rows.append(row)
    return rows
