"""Where the embedded datasets and models lie: beside the package in a checkout, inside it in an installed wheel.

And where results go.
"""

import os
from pathlib import Path

from xgap_analysis.core.errors import XgapError


def data_root() -> Path:
    """The folder that holds `emoji/` and `models/`.

    Raises:
        XgapError: an installation without its data.
    """
    package = Path(__file__).parent.parent
    for root in (package / "_data", package.parent / "data"):
        if (root / "models").is_dir() or (root / "emoji").is_dir():
            return root
    raise XgapError("the embedded data are missing from this installation; install the wheel or clone the repository")


def results_folder() -> Path:
    """The one folder that tables and the files of explorers go to, from notebooks and from the command line.

    It is the one that the environment variable XGAP_RESULTS names, else `results` at the root of the checkout that the
    current folder lies in (so that a notebook in `notebooks/` and a command beside it write to one place), else
    `results` in the current folder.

    Example:
        >>> from xgap_analysis.core.paths import results_folder
        >>> import os
        >>> os.environ["XGAP_RESULTS"] = "/scratch/me"
        >>> str(results_folder())
        '/scratch/me'
        >>> del os.environ["XGAP_RESULTS"]
    """
    named = os.environ.get("XGAP_RESULTS")
    if named:
        return Path(named)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and Path.cwd().is_relative_to(checkout):
        return Path(os.path.relpath(checkout / "results"))
    return Path("results")
