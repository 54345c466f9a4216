"""What a scorer is: a function of one block of queries and a gallery, known by a name, with options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from xgap_analysis.core.calls import Call, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options, name_of
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.tokens import TokenBlock

if TYPE_CHECKING:
    from xgap_analysis.scoring.learned.fitted import FittedOn

ScoreFunction = Callable[..., Tensor]  # (query, gallery, **options) -> scores [b, m]
Takes = Literal["vectors", "tokens", "features"]
Join = Literal["mean", "sum"] | None
Joins = tuple[Join, Join]  # of the query, of the gallery
LEADING = 2
_KINDS = ("vectors", "tokens", "features")


@dataclass(frozen=True)
class Scorer:
    """How a pair is scored: `scorer(query, gallery) -> scores [b, m]`; `str()` of it is its name in tables.

    Args:
        name: as registered.
        function: `function(query, gallery, *arguments, **options)`; a higher score is nearer. See `takes` for what
            query and gallery are.
        options: given by the user; others keep the function's defaults.
        arguments: the scorers that it is made of, for `sum` and `rerank`.

    Example:
        >>> import torch
        >>> scorer("cosine")(torch.eye(2), torch.eye(2)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    name: str
    function: ScoreFunction
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return spelled(self.name, self.arguments, self.options)

    @property
    def takes(self) -> Takes | None:
        """What the function is called with; None (a function that is not registered) says: as the features are.

        | takes | query, gallery |
        |---|---|
        | `vectors` | `[b, d]` and `[m, d]`, one vector per item |
        | `tokens` | two `TokenBlock`s, a part of the queries and a part of the gallery |
        | `features` | `TokenFeatures` of the block's queries and of the whole gallery |
        """
        return getattr(self.function, "takes", None)

    @property
    def joins(self) -> Joins:
        """What may stand for the tokens of an item, so that one product does for all of them; None: nothing may."""
        joins = getattr(self.function, "joins", None)
        return (None, None) if joins is None else joins(**self.options)

    @property
    def fitted_on(self) -> "tuple[FittedOn, ...]":
        """What the weights of this scorer, and of those that it is made of, were learned from; empty without any."""
        own = getattr(self.function, "fitted_on", None)
        parts = (part for of in self.arguments if isinstance(of, Scorer) for part in of.fitted_on)
        return (*parts,) if own is None else (own, *parts)

    @property
    def is_unfitted(self) -> bool:
        """Whether it, or a scorer that it is made of, has weights that are to be fitted first."""
        parts = (scorer(of) for of in self.arguments if is_scorer(of))
        return hasattr(self.function, "learned") or any(part.is_unfitted for part in parts)

    def __call__(
        self, query: Tensor | TokenBlock | TokenFeatures, gallery: Tensor | TokenBlock | TokenFeatures
    ) -> Tensor:
        """Scores `[b, m]` of one block, as float32.

        Raises:
            XgapError: something else than finite scores of that shape.
        """
        scores = self.function(query, gallery, *self.arguments, **self.options)
        shape = (len(query), len(gallery))
        if not isinstance(scores, Tensor) or tuple(scores.shape) != shape:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise XgapError(f"scorer {self} must give a tensor of scores {shape}, not {found}")
        if not bool(torch.isfinite(scores.sum())) and not bool(torch.isfinite(scores).all()):
            raise XgapError(f"scorer {self} gave a score that is NaN or infinite")
        return scores.float()


SCORERS: Registry[ScoreFunction] = Registry("scorer", lambda function: function)


def register_scorer(
    name: str,
    *,
    takes: Takes = "vectors",
    joins: Callable[..., Joins] | None = None,
    contributions: ScoreFunction | None = None,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Make a scorer known by name to metrics, studies, the command line, the widgets and the notebooks.

    Args:
        name: as in tables.
        takes: what the function is called with: `"vectors"`, `"tokens"` or `"features"` (see `Scorer.takes`).
        joins: for `tokens`: a function of the options that says whether the score depends on no more than the mean or
            the sum of an item's tokens. The function is then called with that as the item's one token.
        contributions: for `tokens`: a function of blocks of one query and one gallery item, and the options, that gives
            what each pair of tokens adds to the score, `[tq, tg]` (see `token_pairs`).

    Raises:
        XgapError: the name is taken by other code, or `takes` is something else.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> import xgap_analysis as xg
        >>> @xg.register_scorer("negative-distance")
        ... def negative_distance(query, gallery, *, power: float = 1.0):
        ...     return -torch.cdist(query, gallery).pow(power)
        >>> scores = xg.score(np.eye(2), np.eye(2), scorer="negative-distance(power=2.0)")
        >>> round(scores[0, 1].item(), 3)
        -2.0
        >>> SCORERS.remove("negative-distance")  # for this example only
    """
    if takes not in _KINDS:
        raise XgapError(f"a scorer takes {', '.join(_KINDS)}, not {takes!r}")

    def add(function: ScoreFunction) -> ScoreFunction:
        SCORERS.add(name, function)
        # On the function, so that it may itself stand where its name may stand.
        function.takes, function.joins = takes, joins  # type: ignore[attr-defined]
        function.contributions = contributions  # type: ignore[attr-defined]
        return function

    return add


def scorer(wanted: "str | Call | Scorer | ScoreFunction", *arguments: Any, **options: Any) -> Scorer:
    """A scorer by name, with options (`"pooled(tau=0.1)"`), or a function `(query, gallery) -> scores` as it is.

    Args:
        wanted: the name, or the function.
        arguments: the scorers that a `sum` or a `rerank` is made of.
        options: replace those in the notation.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or something that is not a scorer.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> str(xg.scorer("late_interaction", inner="mean"))
        'late_interaction(inner=mean)'
        >>> xg.score(np.eye(2), np.eye(2), scorer=xg.scorer("cosine")).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        wanted = Scorer(wanted.name, SCORERS[wanted.name], wanted.options, wanted.arguments)
    elif not isinstance(wanted, Scorer):
        if not callable(wanted):
            raise XgapError(f"a scorer is a name, a Scorer or a function (query, gallery) -> scores, not {wanted!r}")
        if inspect.isclass(wanted):
            raise XgapError(f"a scorer is a function; make an instance of {wanted.__name__} first")
        wanted = Scorer(name_of(wanted), wanted)
    made = replace(wanted, options={**wanted.options, **options}, arguments=(*wanted.arguments, *arguments))
    _check_arguments(made)
    check_options("scorer", made.name, made.function, LEADING, made.options)
    return made


def is_scorer(argument: Any) -> bool:
    """Whether an argument of a scorer is a scorer, by name or as it is."""
    if isinstance(argument, str | Call):
        return (argument if isinstance(argument, str) else argument.name) in SCORERS
    return isinstance(argument, Scorer)


def complete_scorers() -> list[str]:
    """The names of the scorers that need no other scorers as arguments, as `sum` and `rerank` do, and no fit."""
    return [
        name
        for name, function in sorted(SCORERS.items())
        if not any(map(_is_argument, _parameters(function))) and not hasattr(function, "learned")
    ]


def _parameters(function: ScoreFunction) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())[LEADING:]


def _is_argument(parameter: inspect.Parameter) -> bool:
    needed = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
    return needed or parameter.kind is parameter.VAR_POSITIONAL


def _check_arguments(made: Scorer) -> None:
    """Refuses arguments where the function has no place for them, or where some are missing."""
    parameters = _parameters(made.function)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return
    needed = [p.name for p in parameters if _is_argument(p)]
    if len(made.arguments) > len(needed):
        what = f"{made.name} takes options by name" if not needed else f"{made.name} takes {', '.join(needed)}"
        raise XgapError(f"{what}: {made.name}(option=value), not {str(made)!r}")
    missing = [name for name in needed[len(made.arguments) :] if name not in made.options]
    if missing:
        raise XgapError(f"scorer {made.name} needs {' and '.join(missing)}, which {str(made)!r} does not give")
