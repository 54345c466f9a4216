"""Long texts, condensed: by a file of summaries that the user supplies, or by the tokenizer's cut."""

import json
from collections.abc import Mapping
from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.table_values import id_text, is_missing
from xgap_analysis.datasets.published.files import read_text

NAMES = ("summaries.jsonl", "summaries.csv", "summaries.parquet")
ID_COLUMNS, TEXT_COLUMNS = ("id", "_id"), ("summary", "text")


def condensed(folder: Path, texts: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Short texts for long ones, and which of the two ways was taken: `"summarised"` or `"truncated"`.

    With a file `summaries.jsonl`, `.csv` or `.parquet` (an id and a summary a row) in the dataset's folder, its
    summaries stand for the texts. Without one the texts stay as they are, and the model's tokenizer cuts them.

    Args:
        folder: of the dataset.
        texts: id, as published, to text.

    Raises:
        XgapError: a file of summaries that is damaged, or that lacks some of the ids.
    """
    file = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if file is None:
        return dict(texts), "truncated"
    summary = _read(file)
    lacking = [i for i in texts if i not in summary]
    if lacking:
        raise XgapError(f"{file} has no summary for {len(lacking)} of {len(texts)} texts, the first is {lacking[0]!r}")
    return {i: summary[i] for i in texts}, "summarised"


def _read(file: Path) -> dict[str, str]:
    import pandas as pd
    import pyarrow.lib

    try:
        if file.suffix == ".jsonl":
            lines = [line for line in read_text(file).splitlines() if line.strip()]
            frame = pd.DataFrame([json.loads(line) for line in lines])
        elif file.suffix == ".csv":
            frame = pd.read_csv(file, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_parquet(file)
    except XgapError:
        raise
    except (ValueError, OSError, AttributeError, pyarrow.lib.ArrowException) as error:
        raise XgapError(f"{file} is damaged: it cannot be read as {file.suffix[1:].upper()} ({error})") from error
    ids = next((name for name in ID_COLUMNS if name in frame), None)
    texts = next((name for name in TEXT_COLUMNS if name in frame), None)
    if ids is None or texts is None:
        raise XgapError(f"{file} needs the columns id and summary; it has: {', '.join(map(str, frame.columns))}")
    read: dict[str, str] = {}
    for cell, text in zip(frame[ids], frame[texts], strict=True):
        if is_missing(cell) or is_missing(text):
            continue  # reported as a text without a summary
        if id_text(cell) in read:
            raise XgapError(f"{file} has two summaries for {id_text(cell)!r}")
        read[id_text(cell)] = str(text)
    return read
