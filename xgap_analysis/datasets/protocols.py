"""The published data sets: what each is asked, what it needs on disk, and where. Data only; the loaders read it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xgap_analysis.errors import XgapError

ROOT_VARIABLE = "XGAP_DATA"  # the folder of data sets where no root is given


@dataclass(frozen=True)
class Protocol:
    """How a published data set is judged, and what its loader reads.

    Args:
        family: the loader that reads it (a key of `datasets.LOADERS`).
        about: what it is, in a few words.
        folders: where it lies under the root; the first that is there is read.
        needs: path under the folder to what it is; "a|b" is either of two.
        queries, gallery, relevance: the protocol of split "test", as tables and `xgap datasets` say it.
        prompt: the text of a class, `{}` its name.
        reads: what the family's loader must know besides (names of files and folders).
    """

    family: str
    about: str
    folders: tuple[str, ...]
    needs: Mapping[str, str]
    queries: str
    gallery: str
    relevance: str
    prompt: str = "a photo of {}"
    reads: Mapping[str, str] = field(default_factory=dict)

    def missing(self, root: Path) -> dict[str, str]:
        """What is needed and not there: path under the root to what it is."""
        folder = self.folder(root)
        shown = folder.relative_to(root)
        return {
            str(shown / needed): what
            for needed, what in self.needs.items()
            if not any((folder / path).exists() for path in needed.split("|"))
        }

    def folder(self, root: Path) -> Path:
        """The folder that is there, or the one that is expected."""
        there = (root / folder for folder in self.folders if (root / folder).is_dir())
        return next(there, root / self.folders[0])

    def found(self, name: str, root: Path) -> Path:
        """The folder, with all that is needed in it.

        Raises:
            XgapError: something is missing (what was expected where is told).
        """
        missing = self.missing(root)
        if missing:
            wanted = "; ".join(f"{root / path} ({what})" for path, what in missing.items())
            raise XgapError(f"data set {name!r} is not complete: put there {wanted}")
        return self.folder(root)


def data_folder(root: Path | str | None) -> Path | None:
    """The folder of data sets: the one given, or the environment variable XGAP_DATA; None where neither is."""
    given = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    return None if given is None else Path(given).expanduser()


PROTOCOLS: dict[str, Protocol] = {}
