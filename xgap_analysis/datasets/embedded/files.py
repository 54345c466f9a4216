"""Files of embedded datasets, held to the SHA-256 that is recorded beside them."""

import hashlib
from pathlib import Path

from xgap_analysis.core.errors import XgapError


def checked(folder: Path, name: str) -> bytes:
    """The content of a file of an embedded dataset.

    Raises:
        XgapError: a file that is missing, or another one than `SHA256SUMS` records.
    """
    known = recorded(folder)
    content = (folder / name).read_bytes() if (folder / name).is_file() else b""
    if hashlib.sha256(content).hexdigest() != known.get(name):
        raise XgapError(f"{folder / name} is not the file that SHA256SUMS records; restore it from the repository")
    return content


def recorded(folder: Path) -> dict[str, str]:
    """File to SHA-256, of the files of an embedded dataset.

    Raises:
        XgapError: no list of them.
    """
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise XgapError(f"{sums} is missing; restore it from the repository")
    lines = (line.split("  ") for line in sums.read_text(encoding="utf-8").splitlines())
    return {file: digest for digest, file in lines}
