"""The NanoBEIR sets: queries, a corpus, and graded relevance, in Parquet as published."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.table_values import clean_text, id_text, is_missing
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.judgements import graded
from xgap_analysis.datasets.published.files import read_parquet
from xgap_analysis.datasets.published.protocols import Protocol
from xgap_analysis.datasets.published.summaries import condensed

if TYPE_CHECKING:
    import pandas as pd

LABEL_SET = "relevance"


def load_documents(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """A NanoBEIR set as the split test (there is no other); its name in tables says what became of long texts.

    Ids are `query/<id>` and `document/<id>`; a document's title, where there is one, stands before its text. A row of
    qrels without a score has grade 1; where others have one, a warning counts such rows, and also repeated ones.

    Raises:
        XgapError: damaged files, an id given twice, a row of qrels for an unknown id, or two grades of one document
            for one query.
    """
    documents = _texts(read_parquet(folder / "corpus", ("_id", "text")), folder / "corpus")
    queries = _texts(read_parquet(folder / "queries", ("_id", "text")), folder / "queries")
    short, how = condensed(folder, documents)
    texts = {f"query/{i}": text for i, text in queries.items()} | {f"document/{i}": t for i, t in short.items()}
    data = assemble(
        name,
        f"test, {how}",
        texts=texts,
        text_queries=tuple(f"query/{i}" for i in queries),
        judgements={LABEL_SET: Relevance.from_qrels(_qrels(folder, queries, documents))},
        prompt=protocol.prompt,
    )
    return in_splits({"test": lambda: data})


def _qrels(folder: Path, queries: Mapping[str, str], documents: Mapping[str, str]) -> dict[str, dict[str, float]]:
    table = read_parquet(folder / "qrels", ("query-id", "corpus-id"))
    grades = table["score"] if "score" in table else [1.0] * len(table)
    rows = zip(table["query-id"], table["corpus-id"], grades, strict=True)
    return graded(rows, folder / "qrels", queries, documents)


def _texts(frame: "pd.DataFrame", folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    titles = frame["title"] if "title" in frame else [None] * len(frame)
    for cell, title, text in zip(frame["_id"], titles, frame["text"], strict=True):
        if is_missing(cell):
            raise XgapError(f"{folder} has a row without an id")
        item = id_text(cell)
        if item in texts:
            raise XgapError(f"{folder} gives the id {item!r} twice")
        if not isinstance(text, str):
            raise XgapError(f"{folder} has no text for the id {item!r}")
        named = isinstance(title, str) and not is_missing(title)
        texts[item] = clean_text(f"{title}. {text}".strip() if named else text.strip())
    return texts
