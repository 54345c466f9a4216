"""What `xgap study` settles before the work: where the table goes, and with `--dry-run` what would be computed.

This module is heavy; the command imports it when it runs.
"""

import itertools
import json
from pathlib import Path

from xgap_analysis.cli.features import check_writable
from xgap_analysis.cli.output import say
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import results_folder
from xgap_analysis.experiments.plan import plan
from xgap_analysis.experiments.study import Study
from xgap_analysis.experiments.table_files import check_table_file
from xgap_analysis.experiments.tables import as_text


def table_file(named: Path | None, overwrite: bool) -> Path:
    """The file of a table: the one that is named, or the first free one of the results folder.

    Raises:
        XgapError: a file that exists and is not to be replaced, a place that cannot be written, or another format.
    """
    folder = results_folder()
    free = itertools.chain([folder / "study.parquet"], (folder / f"study-{n}.parquet" for n in itertools.count(2)))
    out = named or next(path for path in free if not path.exists())
    check_table_file(out)
    check_writable(out)
    if out.exists() and not overwrite:
        raise XgapError(f"{out} exists: replace it with --overwrite, or name another file with --out")
    return out


def print_plan(study: Study, as_json: bool) -> None:
    """Print the plan of a study, and how long all of it takes."""
    rows = plan(study)
    if as_json:
        say(json.dumps(rows))
        return
    say(as_text([{**row, "seconds": f"{row['seconds']:.1f}"} for row in rows]))
    total = _duration(sum(row["seconds"] for row in rows))
    say(f"\nat most about {total} here; what the store has already is not subtracted")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"
