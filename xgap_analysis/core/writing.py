"""Files that are written whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from xgap_analysis.core.errors import XgapError


@contextlib.contextmanager
def written_whole(path: Path, what: str) -> Iterator[Path]:
    """A place beside a file to write to, which takes the file's name at the end of the block.

    The folder is made where it is missing. After an error nothing is left, and an older file stays as it was.

    Args:
        path: of the file.
        what: what is written, for the message ("the ids or the provenance of these features").

    Raises:
        XgapError: a place that cannot be written, or content that the format cannot hold.
    """
    temporary = path.with_name(f".{path.stem}-{os.getpid()}-{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise XgapError(f"{path} cannot be written ({error.strerror or error})") from error
    except (TypeError, UnicodeError) as error:
        raise XgapError(f"{what} cannot be put in {path.name}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def fill_places(page: Path, texts: Mapping[str, str]) -> None:
    """Write texts between the marks `<!-- NAME -->` and `<!-- /NAME -->` of a page, such as a data card.

    Args:
        page: a text file.
        texts: by the name of their place.
    """
    written = page.read_text("utf-8")
    for name, text in texts.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, _, rest = written.partition(start)
        written = before + start + text + end + rest.partition(end)[2]
    page.write_text(written, "utf-8")
