"""Where the embedded datasets and models lie: beside the package in a checkout, inside it in an installed wheel."""

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
