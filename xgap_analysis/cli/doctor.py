"""`xgap doctor`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xgap_analysis.cli.output import print_rows, say
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Doctor:
    """Check that this machine has all that the embedded default needs, or that two files have the same vectors.

    Example:
        xgap doctor
        xgap doctor --json
        xgap doctor --compare vllm.npy transformers.npy
    """

    compare: tuple[Path, ...] = ()
    """Two files of vectors of the same items (see xg.load_features): are they the same, the same up to scale, or up to
    rotation? Exit code 1 where they are different, or in another order."""
    keys: tuple[str, ...] = ()
    """With --compare: the array or column with the vectors, one name for both or one per file."""
    k: int = 10
    """With --compare: number of nearest neighbours of the rank overlap."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print one row for each check; 1 if one fails."""
        if self.compare:
            return self._compared()
        if self.keys:
            raise XgapError("--keys belongs to --compare")
        from xgap_analysis.cli.checks import checks

        rows = checks()
        print_rows(rows, self.json)
        return 0 if all(row["ok"] for row in rows) else 1

    def _compared(self) -> int:
        """Print what the two files have in common, and the verdict."""
        from xgap_analysis.metrics.sameness import DIFFERENT, ORDER, compare_vectors

        if len(self.compare) != 2 or len(self.keys) > 2:
            raise XgapError(f"--compare names two files, and --keys one name or two, not {len(self.compare)} files")
        keys = (*self.keys, *self.keys)[:2] or (None, None)
        found = compare_vectors(*map(_vectors, self.compare, keys), k=self.k)
        cosine = found.rows["cosine"]
        rows = [
            {"measure": "rows", "value": len(found.rows)},
            {"measure": "cosine of a row, lowest", "value": float(cosine.min())},
            {"measure": "cosine of a row, median", "value": float(cosine.median())},
            {"measure": "length in b over length in a, median", "value": float(found.rows["scale"].median())},
            {"measure": f"{found.k} nearest neighbours in common", "value": found.overlap},
            {"measure": "distance after the best rotation", "value": found.residual},
        ]
        rows = [row for row in rows if row["value"] == row["value"]]  # no cosine between different dimensions
        if self.json:
            print_rows([*rows, {"measure": "verdict", "value": found.verdict}], True)
        else:
            print_rows([{**row, "value": f"{row['value']:.6g}"} for row in rows], False)
            say(f"\n{found.sentence}")
        return 1 if found.verdict in (DIFFERENT, ORDER) else 0


def _vectors(path: Path, key: str | None) -> "pd.DataFrame":
    """The rows of a file, under their ids."""
    import pandas as pd

    from xgap_analysis.core.features_io import read_vectors

    vectors, about = read_vectors(path, key)
    return pd.DataFrame(vectors.double().numpy(), index=about.get("ids"))
