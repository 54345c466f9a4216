"""Keys: what determines the numbers, as canonical JSON and its digest."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from xgap_analysis.core.errors import XgapError

FORMAT = 2  # enters every key: a change of the layout on disk never reads what another layout wrote


def key_of(provenance: Mapping[str, Any]) -> str:
    """The SHA-256 of a provenance as canonical JSON (sorted keys, no NaN): 64 hexadecimal digits.

    Raises:
        XgapError: a value that is not a JSON scalar, list or mapping with string keys (its place is named).

    Example:
        >>> from xgap_analysis.store import key_of
        >>> len(key_of({"view": "image"}))
        64
    """
    check_json(provenance, "provenance")
    canonical = json.dumps(plain(provenance), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def entry_key(provenance: Mapping[str, Any]) -> str:
    """The key of the entry that holds what this provenance gives."""
    return key_of({"format": FORMAT, "provenance": provenance})


def check_json(value: Any, place: str) -> None:
    """Refuses what has no single JSON form; `place` is how the message points to it."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise XgapError(f"{place} has a key that is not a string: {name!r}")
            check_json(item, f"{place}[{name!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_json(item, f"{place}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise XgapError(f"{place} is {value}, which has no place in a key")
    elif not (value is None or isinstance(value, str | int | float)):
        raise XgapError(f"{place} is a {type(value).__name__}; only strings, numbers, lists and mappings can be stored")


def plain(value: Any) -> Any:
    """Mappings as dicts and tuples as lists, all the way down, as JSON will give them back."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
