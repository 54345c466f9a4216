"""Arguments -> a command, with every mistake as one plain sentence."""

import io
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from xgap_analysis.core.errors import XgapError, unknown_name

NUMBERS: dict[type, str] = {int: "a whole number", float: "a number"}
FRAME = "╭╮╰╯│─|+-"  # what the parser draws around its messages, with and without UTF-8


def parsed(command: Any, prog: str, about: str, args: Sequence[str]) -> Any:
    """The command that the arguments describe.

    Args:
        command: its class, or a union of the classes of sub-commands.
        prog, about: as the help prints them.
        args: without the program's name.

    Raises:
        XgapError: arguments that do not fit, in one sentence.
        SystemExit: after the help was printed.
    """
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                command,
                prog=prog,
                description=about,
                args=args,
                config=(tyro.conf.FlagCreatePairsOff,),
                registry=_registry(),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        unknown = re.search("Unrecognized options: (-[^ ,]+)", said.getvalue())
        if unknown and is_dataclass(command):
            options = [f"--{option.name.replace('_', '-')}" for option in fields(command)]
            raise unknown_name(f"option of {prog}", unknown[1].partition("=")[0], options) from None
        raise XgapError(f"{_sentence(said.getvalue())}; {prog} --help lists the options") from None


def _registry() -> ConstructorRegistry:
    """The parser's rules, with one for numbers, and lists of them, whose message says what is expected."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        union = get_origin(info.type) in (Union, UnionType)
        kinds = [kind for kind in (get_args(info.type) if union else (info.type,)) if kind is not NoneType]
        if len(kinds) != 1:
            return None
        each = get_args(kinds[0])[0] if get_origin(kinds[0]) is tuple else None
        kind = each or kinds[0]
        return _number(kind, several=each is not None) if kind in NUMBERS else None

    return registry


def _number(kind: type, several: bool) -> PrimitiveConstructorSpec[Any]:
    def read(word: str) -> Any:
        try:
            return kind(word)
        except ValueError:
            raise ValueError(f"{NUMBERS[kind]} is expected, not {word!r}") from None

    metavar = kind.__name__.upper()
    return PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=f"[{metavar} [{metavar} ...]]" if several else metavar,
        instance_from_str=lambda words: tuple(map(read, words)) if several else read(words[0]),
        is_instance=lambda value: True,  # a default, which is only printed
        str_from_instance=lambda value: list(map(str, value)) if several and value is not None else [str(value)],
    )


def _sentence(text: str) -> str:
    """What a box of the parser says up to its first rule, as one line: the rest repeats the help."""
    words: list[str] = []
    for line in text.splitlines()[1:]:
        bare = line.strip(FRAME + " ")
        if not bare and words:
            break
        words.append(bare)
    return " ".join(" ".join(words).split()).removeprefix("Error parsing ").rstrip(".") or "the arguments do not fit"
