"""Working copies of the notebooks, in a folder that git ignores, for `make lab`: a run changes no tracked file.

A copy that nobody has edited follows its notebook; one that was edited stays, and a line says that the notebook has
changed since.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
COPIED = "xgap_copied"  # the key of a copy's metadata: the digest of what was copied


def update(target: Path, source: Path = HERE) -> Iterator[str]:
    """Copies what the folder lacks and what has changed; gives a line for each copy that is kept all the same.

    Args:
        target: the folder of the copies, which is made if it is missing.
        source: the folder of the notebooks.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.ipynb")):
        notebook, copy = nbformat.read(file, as_version=4), target / file.name
        new = _digest(notebook)
        before = _copied(copy)
        if before == new:
            continue
        if copy.exists() and (before is None or _is_edited(copy, before)):
            yield f"{copy} has your changes and is kept; {file} is newer (rename yours to get it)"
            continue
        notebook.metadata[COPIED] = new
        part = target / f".{file.name}.part"  # a copy that was cut off would be kept as if it were edited
        nbformat.write(notebook, part)
        part.replace(copy)


def _is_edited(copy: Path, before: str) -> bool:
    try:
        return _digest(nbformat.read(copy, as_version=4)) != before
    except Exception:  # whatever keeps it from being a notebook, nobody else wrote it
        return True


def _copied(copy: Path) -> str | None:
    """The digest that a copy was made with; None where there is no copy, or none of ours."""
    try:
        digest = json.loads(copy.read_text(encoding="utf-8"))["metadata"][COPIED]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(digest)


def _digest(notebook: nbformat.NotebookNode) -> str:
    """A digest of the cells, without outputs."""
    cells = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="the folder of the copies")
    target = parser.parse_args().target
    try:
        for line in update(target):
            print(line)
    except OSError as error:
        parser.exit(1, f"copies of the notebooks cannot be written to {target}: {error}; make it a folder of yours\n")


if __name__ == "__main__":
    main()
