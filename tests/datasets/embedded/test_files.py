"""Files of embedded datasets are those that are recorded."""

import hashlib
from pathlib import Path

import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.embedded.files import checked, recorded


def test_a_file_is_given_as_it_was_recorded_and_named_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'one').hexdigest()}  a.json\n")
    assert checked(tmp_path, "a.json") == b"one"
    assert list(recorded(tmp_path)) == ["a.json"]
    (tmp_path / "a.json").write_bytes(b"two")
    with pytest.raises(XgapError, match=r"a\.json is not the file that SHA256SUMS records; restore it"):
        checked(tmp_path, "a.json")
    (tmp_path / "a.json").unlink()
    with pytest.raises(XgapError, match=r"a\.json is not the file"):
        checked(tmp_path, "a.json")
    (tmp_path / "b.json").write_bytes(b"")
    with pytest.raises(XgapError, match=r"b\.json is not the file"):  # there, and not recorded
        checked(tmp_path, "b.json")
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(XgapError, match=r"SHA256SUMS is missing; restore it"):
        checked(tmp_path, "a.json")
