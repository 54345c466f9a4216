"""Judgements of relevance from a table: a query, a document and a grade in each row."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import id_text, is_missing


def graded(
    rows: Iterable[tuple[Any, Any, Any]], file: Path, queries: Collection[str], documents: Collection[str]
) -> dict[str, dict[str, float]]:
    """Grades by query and document, under the ids `query/<id>` and `document/<id>`.

    Args:
        rows: a query, a document, and a grade; one that is missing is 1, and a warning counts such rows.
        file: where they are from, for messages.
        queries, documents: the ids that there are.

    Raises:
        XgapError: no rows, a row for an unknown id, or two grades of one document for one query.
    """
    qrels: dict[str, dict[str, float]] = {}
    unscored = repeated = count = 0
    for query_id, document_id, score in rows:
        count += 1
        query, document = id_text(query_id), id_text(document_id)
        for item, known, what in ((query, queries, "queries"), (document, documents, "corpus")):
            if item not in known:
                raise XgapError(f"{file} names {item!r}, which is not in {file.parent / what}")
        unscored += is_missing(score)
        grade = 1.0 if is_missing(score) else float(score)
        of = qrels.setdefault(f"query/{query}", {})
        repeated += f"document/{document}" in of
        before = of.setdefault(f"document/{document}", grade)
        if before != grade:
            what = f"{file} grades {document!r} for the query {query!r} twice"
            raise XgapError(f"{what}, {before:g} and {grade:g}; keep one of the two rows")
    if not qrels:
        raise XgapError(f"{file} has no rows")
    if unscored:
        notice(f"{unscored} of {count} rows of {file} have no score; they are read as grade 1")
    if repeated:
        notice(f"{repeated} of {count} rows of {file} repeat an earlier one, with the same grade")
    return qrels
