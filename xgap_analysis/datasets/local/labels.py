"""Labels of items that are known by their ids alone, from a table."""

from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.table_values import id_text, label_text
from xgap_analysis.datasets.local.columns import cell_of, usual_column
from xgap_analysis.datasets.local.rows import notice_missing, row_of, split_text
from xgap_analysis.datasets.local.tables import columns_of, read_rows


def read_labels(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and splits by id, from the columns `label`, `split` and `id` (or their usual names) of a table.

    Without a column of ids, the rows have running numbers from 0, as those of a `.npy` file do. Missing labels (see
    `load_pairs`) are left out and counted in a warning.

    Raises:
        XgapError: a table that cannot be read, no column of labels, a cell of several labels, a missing id, or an id
            with two labels.
    """
    rows = read_rows(path)
    names = columns_of(rows)
    usual = {part: usual_column(part, names, path) for part in ("label", "split", "id")}
    columns = {part: column for part, column in usual.items() if column is not None}
    if "label" not in columns:
        raise XgapError(f"{path} has no column of labels; it has: {', '.join(names)}; call one of them label")
    known: dict[str, dict[str, str]] = {"label": {}, "split": {}}
    items = (
        [row_of(path, k, id_text, cell_of(row, columns, "id")) for k, row in enumerate(rows)] if "id" in columns else []
    )
    found: dict[str, list[str | None]] = {"label": [], "split": []}
    for k, row in enumerate(rows):
        item = items[k] if items else str(k)
        for part, read in (("label", label_text), ("split", split_text)):
            value = row_of(path, k, read, cell_of(row, columns, part))
            found[part].append(value)
            if value is not None and known[part].setdefault(item, value) != value:
                raise XgapError(f"{path} gives {item!r} more than one {part}: {known[part][item]}, {value}")
    notice_missing(rows, columns, path, found, "rows")
    return known["label"], known["split"]
