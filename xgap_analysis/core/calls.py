"""`name(option=value, ...)`: the one notation in which whatever has a name is given its options."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xgap_analysis.core.errors import XgapError

NAME = r"[A-Za-z_][\w.+:-]*"
PAIRS = {"(": ")", "[": "]", "{": "}"}
MARKS = "()[]{}=,'\""  # what no plain word holds


@dataclass(frozen=True)
class Call:
    """A name with arguments and options; an argument or an option may be a call itself.

    Example:
        >>> str(parse("fuse(image, oti(steps=25), weight=0.3)"))
        'fuse(image, oti(steps=25), weight=0.3)'
    """

    name: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return spelled(self.name, self.arguments, self.options)


def spelled(name: str, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None) -> str:
    """The notation of a name with arguments and options, which `parse` reads again."""
    inside = [*map(_word, arguments), *(f"{key}={_word(value)}" for key, value in (options or {}).items())]
    return f"{name}({', '.join(inside)})" if inside else name


def parse(text: str) -> Call:
    """Reads the notation. A value is a Python literal, a call, or else a plain word (a string).

    Raises:
        XgapError: unbalanced brackets, an option without a value, or an argument behind an option.
    """
    text = text.strip()
    head = re.match(NAME, text)
    rest = text[head.end() :].strip() if head else ""
    if head is None or (rest and not (rest[0] == "(" and rest[-1] == ")")):
        raise _wrong(text)
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    for part in _parts(rest[1:-1], text):
        option = re.match(r"([A-Za-z_]\w*)\s*=(?!=)", part)
        if option is None and options:
            raise _wrong(text)
        if option is None:
            arguments.append(_value(part, text))
        elif option[1] in options:
            raise XgapError(f"option {option[1]!r} is given twice in {text!r}")
        else:
            options[option[1]] = _value(part[option.end() :], text)
    return Call(head[0], tuple(arguments), options)


def options_alone(call: Call, what: str) -> dict[str, Any]:
    """The options of a call that takes no arguments.

    Raises:
        XgapError: it has some.
    """
    if call.arguments:
        raise XgapError(f"{what} takes options by name: {call.name}(option=value), not {str(call)!r}")
    return dict(call.options)


def listed(text: str) -> list[Any]:
    """The values of a list without its brackets, read as in `parse`: `listed("8, 32, None")` is `[8, 32, None]`.

    Raises:
        XgapError: unbalanced brackets or an empty place.
    """
    return [_value(part, text) for part in _parts(text, text)]


def _parts(inside: str, whole: str) -> list[str]:
    """Splits at the commas that stand in no bracket and in no quotation."""
    parts, start, closing, quote, escaped = [], 0, list[str](), "", False
    for i, letter in enumerate(inside):
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"":
            quote = letter
        elif letter in PAIRS:
            closing.append(PAIRS[letter])
        elif letter in PAIRS.values():
            if not closing or closing.pop() != letter:
                raise _wrong(whole)
        elif letter == "," and not closing:
            parts.append(inside[start:i])
            start = i + 1
    if closing or quote:
        raise _wrong(whole)
    parts.append(inside[start:])
    return [part.strip() for part in parts] if inside.strip() else []


def _value(text: str, whole: str) -> Any:
    text = text.strip()
    if not text:
        raise _wrong(whole)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    if re.fullmatch(rf"{NAME}\s*\(.*\)", text, re.DOTALL):
        return parse(text)
    if any(mark in text for mark in MARKS):
        raise _wrong(whole)
    return text


def _word(value: Any) -> str:
    """A value as `parse` reads it again: a plain word without quotation marks, where it can only be read as a word."""
    if not isinstance(value, str):
        return str(value)
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        literal = None
    plain = bool(value) and value == value.strip() and not any(mark in value for mark in MARKS) and literal is None
    return value if plain and value != "None" else repr(value)


def _wrong(text: str) -> XgapError:
    return XgapError(f"{text!r} is not written like name(option=value, other=2): check brackets, commas and quotes")
