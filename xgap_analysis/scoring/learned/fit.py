"""Scorers that are fitted, by name: `fit_scorer("x_pool(epochs=3)", texts, frames)` gives a `Scorer`."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from torch import Tensor, nn

from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options, check_values
from xgap_analysis.core.tokens import ScoredLike, TokenFeatures
from xgap_analysis.scoring.learned.fitted import Fitted, FittedOn
from xgap_analysis.scoring.learned.pairs import paired
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer, is_scorer, register_scorer, scorer

LEADING = 1  # the pairs


@dataclass(frozen=True, eq=False)
class Learned:
    """What the function of a learned scorer gives: see `Fitted`, which says what each is."""

    module: nn.Module
    scoring: Scorer
    losses: tuple[float, ...] = ()


Maker = Callable[..., Learned]  # (pairs, *, seed, **options)
LEARNED: Registry[Maker] = Registry("learned scorer", lambda maker: maker)


def register_learned(name: str, *, plain: bool = True) -> Callable[[Maker], Maker]:
    """Make a learned scorer known by name: to `fit_scorer`, and as a scorer to studies, which fit it.

    The decorated function takes `Paired` features and options as keywords, `seed` among them, and gives `Learned`.

    Args:
        name: as in tables.
        plain: whether any queries and gallery items will do, without more about them (boxes, a reference image first).

    Raises:
        XgapError: the name is taken by other code.
    """

    def add(maker: Maker) -> Maker:
        LEARNED.add(name, maker)
        maker.plain = plain  # type: ignore[attr-defined]
        register_scorer(name, takes="features")(_unfitted(name, maker))
        return maker

    return add


def plain_learned_scorers() -> list[str]:
    """The names of the learned scorers that can be fitted to any queries and gallery items."""
    return [name for name, maker in sorted(LEARNED.items()) if getattr(maker, "plain", False)]


def _unfitted(name: str, maker: Maker) -> ScoreFunction:
    """What stands for a learned scorer before its fit: its options, and how it is fitted."""

    @wraps(maker)
    def scores(query: TokenFeatures, gallery: TokenFeatures, **options: Any) -> Tensor:
        what = f"scorer {name} has weights, which are fitted first: xg.fit_scorer({name!r}, queries, gallery)"
        raise XgapError(f"{what}, or name it in a study, which fits it on its fit split")

    both = [inspect.Parameter(of, inspect.Parameter.POSITIONAL_OR_KEYWORD) for of in ("query", "gallery")]
    options = list(inspect.signature(maker).parameters.values())[LEADING:]
    scores.__signature__ = inspect.Signature([*both, *options])  # type: ignore[attr-defined]
    scores.learned = maker  # type: ignore[attr-defined]
    return scores


def fitted(wanted: Scorer, query: ScoredLike, gallery: ScoredLike, **how: Any) -> Scorer:
    """A scorer with its learned parts fitted to pairs; one without any as it is.

    Args:
        wanted: a scorer, as `"x_pool"` or `"rerank(cosine, x_pool, depth=10)"` name it.
        query, gallery: of a split that is not evaluated.
        how: `pairs`, `split` and `query_spaces` of `fit_scorer`.

    Raises:
        XgapError: as `fit_scorer`.
    """
    if not wanted.is_unfitted:
        return wanted
    if hasattr(wanted.function, "learned"):
        return fit_scorer(Call(wanted.name, (), dict(wanted.options)), query, gallery, **how)
    parts = (fitted(scorer(of), query, gallery, **how) if is_scorer(of) else of for of in wanted.arguments)
    return replace(wanted, arguments=tuple(parts))


def fit_scorer(
    wanted: str | Call,
    query: ScoredLike,
    gallery: ScoredLike,
    *,
    pairs: Mapping[str, str | Collection[str]] | None = None,
    split: str = "",
    query_spaces: Sequence[str] | None = None,
    **options: Any,
) -> Scorer:
    """A scorer with weights, fitted to pairs of a query and a gallery item.

    The same features, pairs and seed give the same weights. What comes back is a scorer like any other
    (`xg.score(..., scorer=fitted)`, `Study(scorers=[fitted])`), whose `fitted_on` says what it has seen; a study marks
    it as transductive where it has seen what is evaluated.

    Args:
        wanted: the name, with options: `"x_pool"`, `"glscl(epochs=5, seed=1)"`; see `LEARNED`.
        query, gallery: Features or TokenFeatures of a split that is not evaluated.
        pairs: from query id to gallery id, or to several; by default the same id.
        split: what a table says that it was fitted on.
        query_spaces: the spaces that queries may lie in later, where that is more than the space of these: `("text",
            "image")` scores images as queries with weights learned from texts.
        options: of the scorer; they replace those in the notation.

    Raises:
        XgapError: an unknown name or option, features that make no pair, or what the fit refuses.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, clips = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = fit_scorer("x_pool(epochs=0)", texts, clips)
        >>> str(fitted), tuple(xg.score(texts, clips, scorer=fitted).shape)
        ('x_pool(epochs=0)', (6, 6))
    """
    call = parse(wanted) if isinstance(wanted, str) else wanted
    given = {**options_alone(call, call.name), **options}
    maker = LEARNED[call.name]
    check_options("learned scorer", call.name, maker, LEADING, given)
    check_values(call.name, maker, LEADING, given)
    of = paired(query, gallery, pairs)
    made = maker(of, **given)
    name = spelled(call.name, (), {key: value for key, value in given.items() if not isinstance(value, Mapping)})
    about = FittedOn.of(of, split, query_spaces)
    return Scorer(name, Fitted(name, made.module, made.scoring, about, made.losses))
