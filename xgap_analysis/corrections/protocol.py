"""What a correction is: fitted on a calibration set, applied to query and gallery before they are scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from inspect import Parameter, signature
from typing import Any, overload

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, where_doubles_are
from xgap_analysis.core.registry import Registry, check_options, name_of
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures
from xgap_analysis.scoring.blocks import ScoreNormaliser
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer
from xgap_analysis.scoring.scorer import scorer as as_scorer

LEADING = 1  # a correction's function begins with the calibration


@dataclass(frozen=True)
class QueryGallery:
    """Query and gallery as they are scored: by `scorer`, after which `normalise` may change a block of scores.

    `note` is what a reader of the row must know of the correction on this very pair.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = xg.Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> pair = xg.QueryGallery(images, images)
        >>> str(pair.scorer), pair.normalise is None
        ('cosine', True)
    """

    query: AnyFeatures
    gallery: AnyFeatures
    normalise: ScoreNormaliser | None = None
    scorer: str | Scorer | ScoreFunction = COSINE
    note: str = ""


@dataclass(frozen=True)
class ScoreCorrection:
    """A correction that sees query and gallery together, or changes scores.

    Args:
        apply: `apply(query, gallery, scorer)` gives `QueryGallery`.
        before: what both go through first, in a chain; each part of a view of several spaces by itself.

    Example:
        >>> import xgap_analysis as xg
        >>> import numpy as np
        >>> import torch
        >>> def doubled(query, gallery, scorer):
        ...     return xg.QueryGallery(query, gallery, normalise=lambda scores: 2 * scores, scorer=scorer)
        >>> images = xg.Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> pair = xg.ScoreCorrection(doubled).apply(images, images, xg.scorer("cosine"))
        >>> pair.normalise(torch.ones(1)).tolist()
        [2.0]
    """

    apply: Callable[[Features, Features, Scorer], QueryGallery]
    before: "FeatureMap | None" = None


FeatureMap = Callable[[Features], Features]


@dataclass(frozen=True)
class ByRole:
    """A correction that maps what is a query in another way than what is in the gallery.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> from xgap_analysis.corrections import ByRole, FittedCorrection
        >>> by_role = ByRole(query=lambda x: x, gallery=lambda x: x.select(x.ids[:5]))
        >>> pair = FittedCorrection("mine", "train", by_role).apply(texts, images)
        >>> len(pair.query), len(pair.gallery)
        (20, 5)
    """

    query: FeatureMap
    gallery: FeatureMap


Made = FeatureMap | ByRole | ScoreCorrection
Fit = Callable[..., Made]
AnyMap = Callable[[Any], Any]  # of features, or of sets of vectors
Given = Callable[[AnyMap | None], AnyFeatures]  # features after a map, or as they are


@dataclass(frozen=True)
class Correction:
    """A named correction with its options; `str()` of it is its name in tables, such as `pca-text(rank=64)`.

    Args:
        name: as registered.
        maker: `maker(calibration, *arguments, **options)` fits it.
        options: given by the user; the others keep the maker's defaults.
        transductive: it always sees what is evaluated.
        claims: comparison to the sign of the difference that its authors claim: 1 better, -1 worse.
        model_alone: the model is all that it is fitted on, whatever its options.
        control: it stands beside another correction, and nothing is claimed of it; tables give it no verdict.
        arguments: the corrections that it is made of, as those of a `chain`; what is true of one of them (transductive,
            control) is true of it.

    Example:
        >>> import xgap_analysis as xg
        >>> correction = xg.correction("pca-text", rank=64)
        >>> str(correction), correction.transductive
        ('pca-text(rank=64)', False)
    """

    name: str
    maker: Fit
    options: Mapping[str, Any] = field(default_factory=dict)
    transductive: bool = False
    claims: Mapping[str, int] = field(default_factory=dict)
    model_alone: bool = False
    control: bool = False
    arguments: "tuple[Correction, ...]" = ()

    @property
    def from_model(self) -> bool:
        """Whether the model is all that it is fitted on: no image, text or class name of a dataset is read."""
        if self.arguments:
            return all(part.from_model for part in self.arguments)
        return self.model_alone or self.options.get("words") == "imagenet"  # see `anchor_texts`

    @property
    def names(self) -> set[str]:
        """Its name and those of the corrections that it is made of."""
        return {self.name}.union(*(part.names for part in self.arguments))

    @property
    def makers(self) -> tuple[Fit, ...]:
        """The functions that fit it, which distinguish it where one's own have the same name."""
        return (self.maker, *(maker for part in self.arguments for maker in part.makers))

    def with_options(self, options: Mapping[str, Mapping[str, Any]]) -> "Correction":
        """The same with options by the name of a correction, where it is that one or is made of it."""
        parts = tuple(part.with_options(options) for part in self.arguments)
        return replace(self, arguments=parts, options={**self.options, **options.get(self.name, {})})

    def __str__(self) -> str:
        return spelled(self.name, self.arguments, self.options)

    def fit(self, calibration: Calibration) -> "FittedCorrection":
        """The correction, fitted.

        Raises:
            XgapError: a calibration set that lacks what the correction is fitted on, or an option out of range.
        """
        features = {space: where_doubles_are(of) for space, of in calibration.features.items()}
        made = self.maker(replace(calibration, features=features), *self.arguments, **self.options)
        return FittedCorrection(str(self), calibration.split, made)


@dataclass(frozen=True)
class FittedCorrection:
    """A fitted correction: a map of features, applied to query and gallery before they are scored.

    Args:
        name: of the correction, with its options.
        split: what it was fitted on.
        made: what the correction's maker gave.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = xg.Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> fitted = xg.correction("none").fit(xg.Calibration({"image": images}, split="train"))
        >>> fitted.name, fitted.split
        ('none', 'train')
    """

    name: str
    split: str
    made: Made

    @property
    def maps(self) -> tuple[AnyMap, AnyMap] | None:
        """What maps a query and what maps a gallery; None where the two are seen together, or scores are changed."""
        if isinstance(self.made, ScoreCorrection):
            return None
        if isinstance(self.made, ByRole):
            return partial(self._mapped, self.made.query), partial(self._mapped, self.made.gallery)
        both = partial(self._mapped, self.made)
        return both, both

    @property
    def maps_to_score(self) -> tuple[AnyMap | None, AnyMap | None]:
        """What query and gallery go through before they are scored: `maps`, or what is before a change of scores."""
        if not isinstance(self.made, ScoreCorrection):
            return self.maps or (None, None)
        by = None if self.made.before is None else partial(self._mapped, self.made.before)
        return by, by

    @property
    def changes_features(self) -> bool:
        """Whether it maps features of either role alike, so that it can be called; otherwise use `apply`."""
        maps = self.maps
        return maps is not None and maps[0] is maps[1]

    @overload
    def __call__(self, features: Features) -> Features: ...
    @overload
    def __call__(self, features: TokenFeatures) -> TokenFeatures: ...
    def __call__(self, features: AnyFeatures) -> AnyFeatures:
        """Features after the correction; of a set of vectors, each vector by itself.

        Raises:
            XgapError: features it was not fitted for, or a correction that cannot map one set of features by itself.
        """
        maps = self.maps
        if maps is None or maps[0] is not maps[1]:
            what = "changes scores" if maps is None else "maps queries in one way and the gallery in another"
            raise XgapError(f"correction {self.name} {what}: use its apply(query, gallery)")
        made: AnyFeatures = maps[0](features)
        return made

    def apply(
        self, query: AnyFeatures, gallery: AnyFeatures, scorer: str | Scorer | ScoreFunction = COSINE
    ) -> QueryGallery:
        """Query and gallery after the correction, and how they are scored.

        Raises:
            XgapError: features it was not fitted for.
        """
        of_query = cache(lambda by: query if by is None else by(query))  # one map of one set is computed once
        of_gallery = of_query if gallery is query else lambda by: gallery if by is None else by(gallery)
        return self.apply_to(of_query, of_gallery, scorer)

    def apply_to(self, query: Given, gallery: Given, scorer: str | Scorer | ScoreFunction = COSINE) -> QueryGallery:
        """As `apply`, of features that are made with the correction: those of a view of several spaces, say.

        Args:
            query, gallery: functions that are given what maps features of their role, or None where nothing does.
            scorer: how a pair is scored.
        """
        of_query, of_gallery = self.maps_to_score
        found = query(of_query), gallery(of_gallery)
        if not isinstance(self.made, ScoreCorrection):
            return QueryGallery(*found, scorer=scorer)
        if isinstance(found[0], TokenFeatures) or isinstance(found[1], TokenFeatures):
            what = f"correction {self.name} compares scores with those of whole items"
            raise XgapError(f"{what}; sets of vectors take corrections that map features, such as center")
        given = where_doubles_are(found[0]), where_doubles_are(found[1])
        pair = self.made.apply(*given, as_scorer(scorer))
        return replace(pair, query=self._stated(given[0], pair.query), gallery=self._stated(given[1], pair.gallery))

    def _mapped(self, by: FeatureMap, features: AnyFeatures) -> AnyFeatures:
        if isinstance(features, TokenFeatures):
            ids = [
                f"{i} {place}"
                for i, n in zip(features.ids, features.lengths.tolist(), strict=True)
                for place in range(n)
            ]
            named = (features.space, features.origin, features.provenance, features.items)
            made = self._mapped(by, Features(features.vectors, ids, *named))
            about = (made.space, features.origin, made.provenance, features.items)
            return TokenFeatures(made.vectors, features.offsets, features.ids, *about, weights=features.weights)
        before, where = where_doubles_are(features), features.vectors.device
        after = self._stated(before, by(before))
        return after if after.vectors.device == where else after.to(where)

    def _stated(self, before: Features, after: Any) -> Features:
        """The corrected features, with what was done to them in their provenance."""
        if after is before:
            return before
        # The digest names the native vectors; work kept under it must not be found for the corrected ones.
        about = {key: value for key, value in before.provenance.items() if key != "digest"}
        return replace(after, provenance={**about, "correction": self.name, "fitted_on": self.split})


CORRECTIONS: Registry[Correction] = Registry("correction", lambda correction: correction.maker)


def register_correction(
    name: str,
    *,
    transductive: bool = False,
    claims: Mapping[str, int] | None = None,
    model_alone: bool = False,
    control: bool = False,
) -> Callable[[Fit], Fit]:
    """Make a correction known by name to studies, the command line, the widgets and the notebooks.

    The decorated function takes a `Calibration` and the correction's options as keywords with defaults, and gives a
    map of `Features`, a map for each role (`ByRole`), or a `ScoreCorrection`.

    Args:
        name: as in tables.
        transductive: it sees what is evaluated, whatever it is fitted on; every table says so.
        claims: comparison to the sign (1, -1) of the difference that its authors claim.
        model_alone: it reads the calibration's model only (and the dimension of its features), so that it can be had
            for a dataset without a split to be fitted on.
        control: it is what another correction is compared with; its rows in a table carry no verdict.

    A name may be registered again by the code that registered it: a notebook's cell that is run twice, a module that is
    loaded again. The newer one counts, and a warning says so.

    Raises:
        XgapError: the name is taken by other code.

    Example:
        >>> import dataclasses
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> @xg.register_correction("first-half")
        ... def first_half(calibration: xg.Calibration):
        ...     return lambda features: dataclasses.replace(features, vectors=features.vectors[:, : features.dim // 2])
        >>> images = xg.Features(np.ones((2, 4)), ["a", "b"], space="image", origin="image")
        >>> xg.correction("first-half").fit(xg.Calibration({"image": images}, split="train"))(images).dim
        2
        >>> CORRECTIONS.remove("first-half")  # for this example only
    """

    def add(maker: Fit) -> Fit:
        entry = Correction(name, maker, {}, transductive, dict(claims or {}), model_alone, control)
        CORRECTIONS.add(name, entry)
        return maker

    return add


def check_dimensions(features: Features, d: int) -> None:
    """Refuses features of another dimension than a correction was fitted on.

    Raises:
        XgapError: with both numbers.
    """
    if features.dim != d:
        raise XgapError(f"the features have {features.dim} dimensions, those it was fitted on {d}")


def complete_corrections() -> list[str]:
    """The names of the corrections that are not made of others, so that the name alone can be chosen."""
    return [name for name, entry in CORRECTIONS.items() if not _takes_corrections(entry.maker)]


def correction(
    wanted: "str | Call | Correction | Fit", *arguments: "str | Call | Correction | Fit", **options: Any
) -> Correction:
    """A correction by name, with options: `correction("pca-text", rank=64)` or `correction("pca-text(rank=64)")`.

    A function that is not registered, `fit(calibration, **options)`, is a correction too, under its own name. The
    arguments of `chain` are corrections: `"chain(center, pca-text(rank=64))"`.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or something that is not a correction.

    Example:
        >>> import xgap_analysis as xg
        >>> str(xg.correction("pca-text", rank=64))
        'pca-text(rank=64)'
        >>> str(xg.correction("chain", "center", "pca-text(rank=64)"))
        'chain(center, pca-text(rank=64))'
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        known = CORRECTIONS[wanted.name]
        if _takes_corrections(known.maker):
            arguments, given = (*wanted.arguments, *arguments), dict(wanted.options)
        else:
            given = options_alone(wanted, "a correction")
        made = replace(known, options={**known.options, **given})
    elif isinstance(wanted, Correction):
        made = wanted
    elif callable(wanted):
        made = Correction(name_of(wanted), wanted)
    else:
        raise XgapError(f"a correction is a name, a Correction or a function that fits one, not {wanted!r}")
    check_options("correction", made.name, made.maker, LEADING, {**made.options, **options})
    made = replace(made, options={**made.options, **options}) if options else made
    if not arguments:
        return made
    if not _takes_corrections(made.maker):
        raise XgapError(f"a correction takes options by name, and no corrections: {made.name}, not {arguments}")
    other = next((a for a in arguments if not (isinstance(a, str | Call | Correction) or callable(a))), None)
    if other is not None:
        raise XgapError(f"{made.name} is made of corrections, and {other!r} is none")
    parts = tuple(map(correction, arguments))
    transductive, control = any(part.transductive for part in parts), any(part.control for part in parts)
    return replace(made, arguments=parts, transductive=transductive, control=control)


def _takes_corrections(maker: Fit) -> bool:
    return any(p.kind is Parameter.VAR_POSITIONAL for p in signature(maker).parameters.values())
