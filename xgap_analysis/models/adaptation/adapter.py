"""What an adapter is: modules that are put into a frozen model, where they enter, and what else is trained."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options, name_of, options_of

Build = Callable[..., Mapping[str, nn.Module]]  # (dims or base, **options) -> modality to what enters its tower
PLACES = ("head", "positions", "tokens", "mlp", "tower")
LEADING = 1


@dataclass(frozen=True)
class Adapter:
    """What is added to a model whose own weights stay as they are; `str()` of it is its name in tables.

    Args:
        name: as registered.
        build: `build(dims, **options)` gives a torch module for each tower that the adapter enters, by modality; `dims`
            has the dimensions of each tower's features, by modality. A module may be there for two towers. At any other
            place than the head it is `build(base, **options)`, of a `Backbone`, and gives a `Part` for each tower.
        place: where the modules enter. `"head"`: behind the tower, from its features `[n, d]`, not normalised, to
            features of the same or another number of dimensions. Inside a tower of open_clip's: `"positions"`,
            `"tokens"` (prompts), `"mlp"` (of its blocks), `"tower"` (what stands in place of its last maps, or of all).
        trained: how the names of those parameters of the base begin that are trained with the adapter; all others are
            frozen.
        starts_as_base: whether the features are the base's before training, up to their lengths; or the modalities
            whose are.
        options: given by the user; others keep the function's defaults.

    Example:
        >>> import xgap_analysis as xg
        >>> adapter = xg.adapter("head(width=64)")
        >>> str(adapter), adapter.place
        ('head(width=64)', 'head')
    """

    name: str
    build: Build
    place: str = "head"
    trained: tuple[str, ...] = ()
    starts_as_base: bool | tuple[str, ...] = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return spelled(self.name, (), self.options)

    @property
    def inside(self) -> bool:
        """Whether it enters a tower's own modules."""
        return self.place != "head"

    @property
    def in_full(self) -> str:
        """Its name with every option, so that a later default changes nothing of what was saved."""
        return spelled(self.name, (), {**options_of(self.build, LEADING), **self.options})

    def starts_as_base_of(self, modality: str) -> bool:
        """Whether the features of a modality are the base's before training."""
        start = self.starts_as_base
        return start if isinstance(start, bool) else modality in start


ADAPTERS: Registry[Adapter] = Registry("adapter", lambda adapter: adapter.build)


def register_adapter(
    name: str, *, place: str = "head", trained: Collection[str] = (), starts_as_base: bool | Collection[str] = True
) -> Callable[[Build], Build]:
    """Make an adapter known by name to `adapted`, `Recipe`, `xgap train`, `load_model` and `xgap adapters`.

    Args:
        name: as in recipes and in the files of a trained model.
        place, trained, starts_as_base: see `Adapter`. That it starts as the base is checked when it is used.

    Raises:
        XgapError: the name is taken by other code, an unknown place, or something that is not a function.

    Example:
        >>> from torch import nn
        >>> from xgap_analysis.models.adaptation import ADAPTERS
        >>> @register_adapter("turn", starts_as_base=False)
        ... def turn(dims, *, bias=False):
        ...     return {"image": nn.Linear(dims["image"], dims["image"], bias=bias)}
        >>> str(adapter("turn(bias=True)"))
        'turn(bias=True)'
        >>> ADAPTERS.remove("turn")
    """
    if place not in PLACES:
        raise XgapError(f"an adapter enters at {', '.join(PLACES)}, not at {place!r}")
    if isinstance(trained, str) or isinstance(starts_as_base, str):
        raise XgapError("trained and starts_as_base of an adapter are lists of names, not one name")
    start = starts_as_base if isinstance(starts_as_base, bool) else tuple(starts_as_base)

    def add(function: Build) -> Build:
        made = Adapter(name, function, place, tuple(trained), start)
        ADAPTERS.add(name, made)
        # On the function, so that it may itself stand where its name may stand.
        function.adapter = made  # type: ignore[attr-defined]
        return function

    return add


def adapter(wanted: str | Call | Adapter | Build, **options: Any) -> Adapter:
    """An adapter by name, with options (`"head(width=64)"`), or a function as it is registered.

    Args:
        wanted: the name, the `Adapter`, or a function `(dims, **options)`; see `Adapter.build`. One that is not
            registered enters at the head and starts as the base.
        options: replace those in the notation.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or something that is not an adapter.

    Example:
        >>> str(adapter("head", width=64))
        'head(width=64)'
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        given = options_alone(wanted, "an adapter")
        wanted = replace(ADAPTERS[wanted.name], options=given)
    elif not isinstance(wanted, Adapter):
        if not callable(wanted) or inspect.isclass(wanted):
            raise XgapError(f"an adapter is a name, an Adapter or a function of dimensions, not {wanted!r}")
        wanted = getattr(wanted, "adapter", None) or Adapter(name_of(wanted), wanted)
    made = replace(wanted, options={**wanted.options, **options})
    check_options("adapter", made.name, made.build, LEADING, made.options)
    return made
