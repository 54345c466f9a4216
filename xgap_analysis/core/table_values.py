"""The meaning of one value of a table: the rule for missing values, ids, labels, captions, image paths and text.

Every reader of local data uses this rule, so that a value means the same in CSV, JSON, Parquet and memory.
"""

import ast
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from xgap_analysis.core.errors import XgapError

# What libraries write for a value that is not there, once it has become text. They are matched as they stand: `none`
# and `NA` may be a class or a country.
MISSING_WORDS = frozenset(("nan", "NaN", "NaT", "<NA>", "null", "NULL", "None", "#N/A"))
NO_CLASS = -1  # a class label that Hugging Face, and many after it, write where there is none
TEXT_KEYS = ("caption", "captions", "text", "texts", "txt", "title", "sentence", "sentences", "description", "raw")
PATH_KEYS = ("path", "file_name", "filename", "filepath", "file_path", "image_path", "image", "file")

_WORD = r"""(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|None|nan|null)"""
# A list as Python prints it, and as NumPy does (without commas, with line ends).
_LIST = re.compile(rf"[\[(]\s*{_WORD}(?:\s*,?\s*{_WORD})*\s*,?\s*[\])]", re.DOTALL)
_DICTIONARY = re.compile(r"""\{\s*['"][^'"]*['"]\s*:.*\}""", re.DOTALL)
_NUMBERS = re.compile(r"\[\s*-?\d+(?:\s*,\s*-?\d+)*\s*\]")


def plain(value: Any) -> Any:
    """A value without its library: NumPy's and torch's numbers and arrays become Python's, bytes become text.

    Raises:
        XgapError: bytes that are not UTF-8.
    """
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise XgapError(f"{bytes(value)[:20]!r} are bytes that are not UTF-8 text") from error
    if isinstance(value, str):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NaT, pd.NA, an empty text, list or object, or a word for these."""
    if isinstance(value, str):
        value = value.strip()
        return not value or value in MISSING_WORDS
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, list | tuple | set | Mapping | bytes):
        return not value
    if hasattr(value, "tolist"):
        return is_missing(value.tolist())
    return bool(value != value)  # NaN, of any type of number


def id_text(value: Any) -> str:
    """An id as text: `b"a"` is `a`, and 7, 7.0 and NumPy's 7 are all `7`.

    Raises:
        XgapError: a missing value, or one that is neither a word nor a number.
    """
    if type(value) is str:
        return value
    simple = plain(value)
    if isinstance(simple, str):
        return simple
    if is_missing(simple):
        raise XgapError(f"an id is a word or a number, and {value!r} stands for a missing one")
    if isinstance(simple, float) and simple.is_integer():
        simple = int(simple)
    if isinstance(simple, list | set | Mapping):
        raise XgapError(f"an id is a word or a number, not {str(value)[:60]}")
    return str(simple)


def label_text(value: Any, names: Sequence[str] = ()) -> str | None:
    """A label as text, None where it is missing; a number is an index into `names`, if there are any.

    -1 is missing too: it is what Hugging Face writes for the class of an unlabelled item.

    Raises:
        XgapError: several labels, or a value that is neither a word nor a number.
    """
    value = plain(value)
    if isinstance(value, str):
        value = value.strip()
        if value in ("-1", "-1.0") or is_missing(value):
            return None
        listed = json.loads(value) if _NUMBERS.fullmatch(value) else _listed(value)
        return clean_text(value) if listed is None else label_text(listed, names)
    if is_missing(value):
        return None
    if isinstance(value, list | tuple | set):
        if len(value) == 1:
            return label_text(next(iter(value)), names)
        raise several_labels(value)
    if isinstance(value, Mapping):
        raise XgapError(f"a label is a word or a number, not the object {str(dict(value))[:60]}")
    if isinstance(value, float) and value.is_integer():  # a column of numbers with a hole is kept as fractions
        value = int(value)
    if value == NO_CLASS:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return clean_text(str(names[value]))
    return str(value)


def several_labels(value: Any) -> XgapError:
    """The error for a cell of several labels, of which an item has one."""
    return XgapError(f"{str(value)[:60]} are several labels, and an item has one; give one label per item")


def caption_texts(cell: Any, keys: Sequence[str] = TEXT_KEYS) -> list[str]:
    """The captions of a cell: a text, a list of them (also as JSON or as Python prints it), or an object that has them.

    Args:
        cell: as it was read.
        keys: names under which an object holds its text, the likelier first.

    Raises:
        XgapError: a list of lists, or an object none of whose parts is known to be its text.
    """
    cell = plain(cell)
    if isinstance(cell, str):
        listed = _listed(cell.strip())
        return [] if is_missing(cell) else [cell.strip()] if listed is None else caption_texts(listed, keys)
    if is_missing(cell):
        return []
    if isinstance(cell, Mapping):
        held = {key: value for key, value in cell.items() if not is_missing(value)}
        key = next((key for key in keys if key in held), None)
        if key is None and held:
            raise XgapError(f"an object with {', '.join(map(str, held))} has no text under any of its names")
        return caption_texts(held[key], keys) if key is not None else []
    if isinstance(cell, list | tuple | set):
        nested = next((part for part in cell if isinstance(part, list | tuple) and len(part)), None)
        if nested is not None:
            raise XgapError(f"a caption is a text, not the list {str(nested)[:60]}")
        return [text for part in cell for text in caption_texts(part, keys)]
    return [str(cell)]


def entries(cell: Any) -> list[str]:
    """The entries of a list in a cell, as of `caption_texts`, but with an empty text for each that is missing.

    So that the entries of two lists of one length stay beside each other.

    Example:
        >>> entries("['red', '', None]"), entries("red"), entries(None)
        (['red', '', ''], ['red'], [])
    """
    cell = plain(cell)
    listed = _listed(cell.strip()) if isinstance(cell, str) else cell
    if not isinstance(listed, list | tuple):
        return caption_texts(cell)
    return [next(iter(caption_texts(part)), "") for part in listed]


def _listed(text: str) -> Any:
    """The list or object that a text is a printed form of; None if it is just a text."""
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if parsed == [] or isinstance(parsed, Mapping):
        return parsed
    if isinstance(parsed, list) and any(isinstance(part, str | Mapping) for part in parsed):
        return parsed
    if _LIST.fullmatch(text) and (text[0] == "[" or "," in text):
        words = re.findall(_WORD, text)
        return [None if word in MISSING_WORDS else ast.literal_eval(word) for word in words]
    if _DICTIONARY.fullmatch(text):
        raise XgapError(f"{text[:60]} is how Python prints an object; write it as JSON, or its text alone")
    return None


def image_path(cell: Any) -> str | None:
    """The path that a cell names an image by, None where it is missing.

    Raises:
        XgapError: a value that is not a path.
    """
    cell = plain(cell)
    if isinstance(cell, os.PathLike):
        cell = os.fspath(cell)
    if is_missing(cell):
        return None
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list | tuple) and len(cell) == 1:
        return image_path(cell[0])
    if isinstance(cell, Mapping):
        key = next((key for key in PATH_KEYS if isinstance(cell.get(key), str)), None)
        if key is not None:
            return image_path(cell[key])
    raise XgapError(f"an image is named by the path of its file, not by {str(cell)[:60]} ({type(cell).__name__})")


def clean_text(text: str) -> str:
    """A text that can be written as UTF-8: the two halves of a character joined, half of one replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
