"""Attributes of modules that show something else for the length of a pass, without any change of the modules."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

Shadow = tuple[Any, str, Any]  # a module of the base, the name of an attribute, and what it shows in its place


@contextlib.contextmanager
def shadowed(shadows: Sequence[Shadow]) -> Iterator[None]:
    """Within, attributes of modules show other values; then all is as before.

    An entry of an instance's own dictionary is found before the parameters, buffers and parts that torch keeps, which
    stay where they are: names, state and gradients of the base do not change.
    """
    absent = object()
    before = [(owner.__dict__, name, owner.__dict__.get(name, absent)) for owner, name, _ in shadows]
    for owner, name, value in shadows:
        owner.__dict__[name] = value
    try:
        yield
    finally:
        for own, name, value in reversed(before):
            if value is absent:
                own.pop(name, None)
            else:
                own[name] = value
