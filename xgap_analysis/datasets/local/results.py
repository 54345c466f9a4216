"""What this tool itself writes among a user's own data, so that it is not taken for data."""

from collections.abc import Collection
from pathlib import Path

from xgap_analysis.core.paths import results_folder

OWN_COLUMNS = frozenset(("model", "dataset", "comparison", "metric", "value"))  # of the table of a study


def is_results_folder(folder: Path, names: Collection[str]) -> bool:
    """Whether a folder is where this tool writes: the results folder, a report, or one with a table of a study.

    Args:
        folder: the folder.
        names: of the files in it.
    """
    results = results_folder()
    if folder.name == results.name and folder.resolve() == results.resolve():
        return True
    if "index.html" in names and (folder / "pages").is_dir() and (folder / "figures").is_dir():
        return True
    return any(is_own_table(folder / name) for name in names if name.endswith(".parquet"))


def is_own_table(file: Path) -> bool:
    """Whether a Parquet file is a table of results, or features, that this tool wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException):  # what reads it says so
        return False
    return set(schema.names) >= OWN_COLUMNS or b"features" in (schema.metadata or {})
