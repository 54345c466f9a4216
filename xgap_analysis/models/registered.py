"""Models of one's own, by name."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from xgap_analysis.core.calls import options_alone, parse
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options, check_word, summary_of
from xgap_analysis.models.adapters.encoder import as_model
from xgap_analysis.models.tower import Model

LEADING = 0  # all parameters of a model's function are options
OFFERED = ("device", "precision")  # what `load_model` was given, where the function takes it


@dataclass(frozen=True)
class Entry:
    """A model that is known by name: the function that makes it, and what it is, in one line."""

    function: Callable[..., Any]
    about: str


MODELS: Registry[Entry] = Registry("model", lambda entry: entry.function)


def register_model(name: str, *, about: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a model known by name to `load_model`, studies, the command line, the widgets and the notebooks.

    The decorated function gives a `Model`, or an object with `encode(list) -> array` (see `as_model`). Its parameters
    are options, written `"name(option=value)"`; those called `device` and `precision` get what `load_model` was given.

    Args:
        name: as in tables.
        about: one line for `xgap models`; by default the first sentence of the function's docstring.

    Raises:
        XgapError: the name is taken by other code, or is not one word.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> @xg.register_model("mean-colour")
        ... def mean_colour(power: float = 1.0):
        ...     def encode(images):
        ...         return np.stack([np.asarray(image, float).mean((0, 1)) ** power + 1 for image in images])
        ...     return xg.as_model(encode, ["image"])
        >>> list(xg.load_model("mean-colour(power=2.0)").towers)
        ['image']
        >>> MODELS.remove("mean-colour")  # for this example only
    """
    check_word("model", name)

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        said = about or summary_of(function)
        MODELS.add(name, Entry(function, said))
        return function

    return add


def is_registered(name: str) -> bool:
    """Whether a name, with options or without, is that of a registered model."""
    return name.partition("(")[0] in MODELS


def registered_model(name: str, *, device: torch.device, precision: str) -> Model:
    """A registered model by name, with the options in its notation.

    Raises:
        XgapError: an unknown option, one that `load_model` gives, a precision that its function does not take, or
            something that is not a model.
    """
    call = parse(name)
    options_alone(call, "a model")
    function = MODELS[call.name].function
    check_options("model", call.name, function, LEADING, call.options)
    takes = inspect.signature(function).parameters
    offered = {key: value for key, value in zip(OFFERED, (device, precision), strict=True) if key in takes}
    for option in call.options:
        if option in offered:
            what = f"{option} is no option of model {call.name!r} but of what loads it"
            raise XgapError(f"{what}: load_model({call.name!r}, {option}=...) in Python, --{option} in xgap")
    if precision != "fp32" and "precision" not in takes:
        raise XgapError(f"the function of model {call.name!r} has no parameter precision; it computes in its own")
    made = function(**offered, **call.options)
    if isinstance(made, Model):
        return replace(made, name=name)
    if callable(getattr(made, "encode", None)):
        return as_model(made, name=name)
    what = f"the function of model {call.name!r} gave {type(made).__name__}"
    raise XgapError(f"{what}; it gives a Model, or an object with encode(list) -> array")
