"""The one shape of every registry: entries by name, from a decorator, an installed package or a notebook cell."""

import hashlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from types import UnionType
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from xgap_analysis.core.calls import Call
from xgap_analysis.core.errors import XgapError, unknown_name

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries of one kind by name.

    A package brings entries of its own by naming a module in its entry points, in the group
    `xgap_analysis.<kind>s` (`xgap_analysis.frame_towers`); importing the module registers them.

    Args:
        kind: what one entry is, for error messages: `"view"`, `"scorer"`, `"correction"`, ...
        code: the function that an entry was made from, so that a cell may run again but no other code reuse the name.
    """

    def __init__(self, kind: str, code: Callable[[Entry], Any]) -> None:
        self.kind = kind
        self._code = code
        self._entries: dict[str, Entry] = {}
        self._loaded = False

    def add(self, name: str, entry: Entry) -> None:
        """Register an entry. The code that registered a name may do so again: the new entry replaces the old one,
        and a warning says so.

        Raises:
            XgapError: the name is taken by other code, or is not callable.
        """
        if not callable(self._code(entry)):
            raise XgapError(f"{self.kind} {name!r} must be a function, not {self._code(entry)!r}")
        if name in self._entries:
            before, after = (origin(self._code(e)) for e in (self._entries[name], entry))
            if before != after and not before[0] == after[0] == "__main__":
                article = "an" if self.kind[0] in "aeiou" else "a"
                what = f"there is {article} {self.kind} named {name!r} already, from {'.'.join(before)}"
                raise XgapError(f"{what}; register yours under another name")
            warnings.warn(f"the {self.kind} {name!r} is replaced by its new definition", stacklevel=3)
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Forget an entry, such as one that a test has added; an unknown name is an error (see `[]`)."""
        _ = self[name]
        del self._entries[name]

    def __getitem__(self, name: str) -> Entry:
        """An entry by name.

        Raises:
            XgapError: an unknown name (the nearest are given).
        """
        if name not in self._entries:
            self._load()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(dict(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        """Imports, once, what installed packages bring."""
        if not self._loaded:
            self._loaded = True
            for entry in entry_points(group=f"xgap_analysis.{self.kind.replace(' ', '_')}s"):
                entry.load()


def check_options(kind: str, name: str, maker: Callable[..., Any], leading: int, options: Mapping[str, Any]) -> None:
    """Refuses options that a function does not take.

    Args:
        kind, name: for the message.
        maker: the function; its first `leading` parameters are given by the caller and are no options.
        leading: their number.
        options: by name.

    Raises:
        XgapError: an unknown option (the nearest are given).
    """
    parameters = list(inspect.signature(maker).parameters.values())[leading:]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}" if name else f"option of this {kind}", option, known)


def check_values(name: str, maker: Callable[..., Any], leading: int, options: Mapping[str, Any]) -> None:
    """Refuses values of options that do not fit a function's annotations (numbers, texts, True or False, given words).

    Other annotations are not checked, nor is a value that is a call.

    Args:
        name: for the message.
        maker, leading, options: as in `check_options`.

    Raises:
        XgapError: such a value.

    Example:
        >>> def scaled(vectors, *, factor: float = 1.0): ...
        >>> check_values("scaled", scaled, 1, {"factor": "two"})
        Traceback (most recent call last):
        xgap_analysis.core.errors.XgapError: factor of scaled is a number, not 'two'
    """
    for p in list(inspect.signature(maker).parameters.values())[leading:]:
        if p.name in options and not isinstance(options[p.name], Call) and p.kind is not p.VAR_KEYWORD:
            kinds = [_kind(one) for one in _alternatives(p.annotation)]
            if all(kinds) and not any(fits(options[p.name]) for fits, _ in filter(None, kinds)):
                words = " or ".join(words for _, words in filter(None, kinds))
                raise XgapError(f"{p.name} of {name} is {words}, not {options[p.name]!r}")


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def _kind(annotation: Any) -> tuple[Callable[[Any], bool], str] | None:
    """Whether a value is of that annotation, and what it says; None where there is nothing to check."""
    if get_origin(annotation) is Literal:
        words = get_args(annotation)
        return words.__contains__, f"one of {', '.join(map(repr, words))}"
    kinds: dict[Any, tuple[Callable[[Any], bool], str]] = {
        bool: (lambda value: isinstance(value, bool), "True or False"),
        int: (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        float: (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
        str: (lambda value: isinstance(value, str), "a text"),
        None: (lambda value: value is None, "None"),
        type(None): (lambda value: value is None, "None"),
    }
    return kinds.get(annotation) if annotation is None or isinstance(annotation, type) else None


def options_of(function: Callable[..., Any], leading: int) -> dict[str, Any]:
    """The options that a user can write in `name(option=value)`, with their defaults.

    Args:
        function: its first `leading` parameters are given by the caller; a parameter whose default has no such
            notation (a function, say) is left out.
        leading: their number.
    """
    parameters = list(inspect.signature(function).parameters.values())[leading:]
    plain = (bool, int, float, str, tuple, list, type(None))
    return {p.name: p.default for p in parameters if isinstance(p.default, plain)}


def check_word(kind: str, name: str) -> None:
    """Refuse a name that could be read as a path, a prefix or a call.

    Raises:
        XgapError: it is not one word.
    """
    if not name or not set(name).isdisjoint("/\\:() "):
        raise XgapError(f"a {kind} is named by one word without slashes, colons and brackets, not {name!r}")


def summary_of(function: Callable[..., Any]) -> str:
    """The first sentence of a docstring; a function without one has none."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def own_code(*functions: Any) -> str:
    """A digest of the source of those functions that no part of this package defines: of a plug-in, a notebook, another
    package. Empty where there are none, or no source is there to be read.
    """
    own = [getattr(function, "func", function) for function in functions]
    own = [function for function in own if origin(function)[0].partition(".")[0] != __name__.partition(".")[0]]
    try:
        source = "\n".join(inspect.getsource(function) for function in own)
    except (OSError, TypeError, SyntaxError):
        return ""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest() if own else ""


def name_of(function: Any) -> str:
    """The name that a function without a registered one has in tables: its own, and `own` where it has none."""
    name = getattr(function, "__name__", type(function).__name__)
    return "own" if name == "<lambda>" else name


def importable(function: Any) -> str:
    """The module that another process imports to get a function; empty where that is not possible.

    What a notebook, an interactive session or a file of `load_plugin` defines is in no such module.
    """
    module, _ = origin(function)
    if module in ("", "__main__") or module.startswith("xgap_plugin_"):
        return ""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return ""
    return module if found is not None else ""


def modules_to_import(by: str, code: Iterable[tuple[str, str, Any]]) -> list[str]:
    """The modules beside the package's own that a fresh process imports, so that it knows names.

    Args:
        by: what starts the process, for the message.
        code: kind, name and function of each.

    Raises:
        XgapError: a name that a notebook or a file of `--plugin` registered.
    """
    modules = set()
    for kind, name, function in code:
        module = importable(function)
        if not module:
            what = f"{by} starts fresh processes, and {kind} {name!r} was registered by code that they cannot"
            raise XgapError(f"{what} import (a notebook, or a file of --plugin); put it in a package, or use local")
        modules.add(module)
    return sorted(module for module in modules if module.partition(".")[0] != __name__.partition(".")[0])


def origin(function: Any) -> tuple[str, str]:
    """The module and the qualified name that a function (or what is made of one) was defined with."""
    function = getattr(function, "func", function)  # of a functools.partial
    module = getattr(function, "__module__", type(function).__module__) or ""  # None of what `exec` ran
    return module, getattr(function, "__qualname__", type(function).__qualname__)
