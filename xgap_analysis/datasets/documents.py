"""The NanoBEIR sets: queries, a corpus, and graded judgements, in Parquet as published."""

from pathlib import Path
from typing import TYPE_CHECKING

from xgap_analysis.datasets.files import read_parquet
from xgap_analysis.datasets.protocols import Protocol
from xgap_analysis.datasets.records import NO_IMAGES, Dataset, Relevance, Texts, in_splits
from xgap_analysis.datasets.summaries import condensed
from xgap_analysis.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd

LEVEL = "judged"


def load_documents(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """A NanoBEIR set as the split test (there is no other); its name in tables says what became of long texts.

    Ids are `query/<id>` and `document/<id>`; a document's title, where there is one, stands before its text. A
    judgement without a score has grade 1.

    Raises:
        XgapError: damaged files, an id given twice, or a judgement of something that is not there.
    """
    documents = _texts(read_parquet(folder / "corpus", ("_id", "text")), folder / "corpus")
    queries = _texts(read_parquet(folder / "queries", ("_id", "text")), folder / "queries")
    short, how = condensed(folder, documents)
    texts = {f"query/{i}": text for i, text in queries.items()} | {f"document/{i}": t for i, t in short.items()}
    judged = read_parquet(folder / "qrels", ("query-id", "corpus-id"))
    grades = judged["score"] if "score" in judged else [1.0] * len(judged)
    qrels: dict[str, dict[str, float]] = {}
    for query, document, grade in zip(judged["query-id"], judged["corpus-id"], grades, strict=True):
        for item, known, where in ((query, queries, "queries"), (document, documents, "corpus")):
            if str(item) not in known:
                raise XgapError(f"{folder / 'qrels'} judges {str(item)!r}, which is not in {folder / where}")
        qrels.setdefault(f"query/{query}", {})[f"document/{document}"] = float(grade)
    if not qrels:
        raise XgapError(f"{folder / 'qrels'} holds no judgement")
    data = Dataset(
        name=name,
        split_name=f"test, {how}",
        images=NO_IMAGES,
        texts=Texts(tuple(texts), tuple(texts.values())),
        labels={},
        text_queries=tuple(f"query/{i}" for i in queries),
        judgements={LEVEL: Relevance.from_qrels(qrels)},
        prompt=protocol.prompt,
    )
    return in_splits({"test": lambda: data})


def _texts(frame: "pd.DataFrame", folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    titles = frame["title"] if "title" in frame else [""] * len(frame)
    for item, title, text in zip(frame["_id"].astype(str), titles, frame["text"], strict=True):
        if item in texts:
            raise XgapError(f"{folder} gives the id {item!r} twice")
        if not isinstance(text, str):
            raise XgapError(f"{folder} has no text for the id {item!r}")
        texts[item] = f"{title}. {text}".strip() if title else text.strip()
    return texts
