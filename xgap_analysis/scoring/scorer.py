"""What a scorer is: a function of one block of queries and a gallery, known by a name, with options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.calls import Call, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options

ScoreFunction = Callable[..., Tensor]  # (query [b, d], gallery [m, d], **options) -> scores [b, m]
LEADING = 2


@dataclass(frozen=True)
class Scorer:
    """How a pair is scored: `scorer(query, gallery) -> scores [b, m]`; `str()` of it is its name in tables.

    Args:
        name: as registered.
        function: `function(query, gallery, **options)` of unit rows `[b, d]` and `[m, d]`; a higher score is nearer.
        options: given by the user; others keep the function's defaults.

    Example:
        >>> import torch
        >>> scorer("cosine")(torch.eye(2), torch.eye(2)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    name: str
    function: ScoreFunction
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return spelled(self.name, (), self.options)

    def __call__(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Scores `[b, m]` of one block, as float32.

        Raises:
            XgapError: something else than finite scores of that shape.
        """
        scores = self.function(query, gallery, **self.options)
        shape = (len(query), len(gallery))
        if not isinstance(scores, Tensor) or tuple(scores.shape) != shape:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise XgapError(f"scorer {self} must give a tensor of scores {shape}, not {found}")
        if not bool(torch.isfinite(scores).all()):
            raise XgapError(f"scorer {self} gave a score that is NaN or infinite")
        return scores.float()


SCORERS: Registry[ScoreFunction] = Registry("scorer", lambda function: function)


def register_scorer(name: str) -> Callable[[ScoreFunction], ScoreFunction]:
    """Make a scorer known by name to metrics, studies, the command line, the widgets and the notebooks.

    Args:
        name: as in tables.

    Raises:
        XgapError: the name is taken by other code.
    """

    def add(function: ScoreFunction) -> ScoreFunction:
        SCORERS.add(name, function)
        return function

    return add


def scorer(wanted: "str | Call | Scorer | ScoreFunction", **options: Any) -> Scorer:
    """A scorer by name, with options (`"pooled(tau=0.1)"`), or a function `(query, gallery) -> scores` as it is.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or something that is not a scorer.
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        if wanted.arguments:
            raise XgapError(f"a scorer takes options by name: {wanted.name}(option=value), not {str(wanted)!r}")
        wanted = Scorer(wanted.name, SCORERS[wanted.name], wanted.options)
    elif not isinstance(wanted, Scorer):
        if not callable(wanted):
            raise XgapError(f"a scorer is a name, a Scorer or a function (query, gallery) -> scores, not {wanted!r}")
        if inspect.isclass(wanted):
            raise XgapError(f"a scorer is a function; make an instance of {wanted.__name__} first")
        name = getattr(wanted, "__name__", type(wanted).__name__)
        wanted = Scorer("own" if name == "<lambda>" else name, wanted)
    check_options("scorer", wanted.name, wanted.function, LEADING, {**wanted.options, **options})
    return replace(wanted, options={**wanted.options, **options}) if options else wanted
