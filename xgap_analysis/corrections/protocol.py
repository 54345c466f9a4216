"""What a correction is: fitted on a calibration set, applied to both sides of a comparison before they meet."""

import ast
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.models.tower import DualEncoder
from xgap_analysis.scoring.blocks import ScoreNormaliser

ENTRY_POINTS = "xgap_analysis.corrections"  # the group by which an installed package brings corrections of its own


@dataclass(frozen=True)
class Calibration:
    """What a correction may be fitted on: a split that is not judged, and the model.

    Args:
        images, texts: `[n, d]` and `[m, d]`, one for each side of the sphere (any two modalities).
        split: what the table says it was fitted on.
        model: whose features these are; None for features that were brought along.
        class_words: the names of the split's classes.
    """

    images: Features
    texts: Features
    split: str
    model: DualEncoder | None = None
    class_words: Sequence[str] = ()

    def side(self, space: str) -> Features:
        """The calibration features of one side of the sphere.

        Raises:
            XgapError: a side that was not calibrated.
        """
        sides = {features.space: features for features in (self.images, self.texts)}
        if space not in sides:
            raise XgapError(f"nothing was fitted for space {space!r}; the calibration set has: {', '.join(sides)}")
        return sides[space]


@dataclass(frozen=True)
class QueryGallery:
    """Query and gallery of a comparison, ready to meet; `normalise` changes their similarities (see `retrieval`)."""

    query: Features
    gallery: Features
    normalise: ScoreNormaliser | None = None


@dataclass(frozen=True)
class ScoreCorrection:
    """A correction that must see both sides at once, or changes similarities: `meet(query, gallery)` gives `QueryGallery`."""

    meet: Callable[[Features, Features], QueryGallery]


Correct = Callable[[Features], Features]
Fit = Callable[..., Correct | ScoreCorrection]


@dataclass(frozen=True)
class Correction:
    """A named correction with its options; `str()` of it is its name in tables, such as `pca-text(rank=64)`.

    Args:
        name: as registered.
        maker: `maker(calibration, **options)` fits it.
        options: given by the user; the others keep the maker's defaults.
        transductive: it sees by its nature what is judged.
        claims: comparison to the sign of the difference that its authors claim: 1 better, -1 worse.
        model_alone: the model is all that it is fitted on, whatever its options.
        control: it stands beside another correction, and nothing is claimed of it; tables give it no verdict.
    """

    name: str
    maker: Fit
    options: Mapping[str, Any] = field(default_factory=dict)
    transductive: bool = False
    claims: Mapping[str, int] = field(default_factory=dict)
    model_alone: bool = False
    control: bool = False

    @property
    def from_model(self) -> bool:
        """Whether the model is all that it is fitted on: no image, text or class name of a data set is read."""
        return self.model_alone or self.options.get("words") == "imagenet"  # see `anchor_texts`

    def __str__(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({given})" if given else self.name

    def fit(self, calibration: Calibration) -> "FittedCorrection":
        """The correction, fitted.

        Raises:
            XgapError: a calibration set that lacks what the correction is fitted on, or an option out of range.
        """
        return FittedCorrection(str(self), calibration.split, self.maker(calibration, **self.options))


@dataclass(frozen=True)
class FittedCorrection:
    """A fitted correction: a map of features, and what two sides become before they meet.

    Args:
        name: of the correction, with its options.
        split: what it was fitted on.
        made: what the correction's maker gave.
    """

    name: str
    split: str
    made: Correct | ScoreCorrection

    @property
    def changes_features(self) -> bool:
        """Whether it maps features one side at a time; otherwise only `meet` can be asked."""
        return not isinstance(self.made, ScoreCorrection)

    def __call__(self, features: Features) -> Features:
        """Features after the correction.

        Raises:
            XgapError: features it was not fitted for, or a correction of similarities, which changes no features.
        """
        if isinstance(self.made, ScoreCorrection):
            what = f"correction {self.name} changes the similarities of two sides"
            raise XgapError(f"{what}: use its meet(query, gallery)")
        return self._stated(features, self.made(features))

    def meet(self, query: Features, gallery: Features) -> QueryGallery:
        """Query and gallery after the correction.

        Raises:
            XgapError: features it was not fitted for.
        """
        if not isinstance(self.made, ScoreCorrection):
            corrected = self(query)
            return QueryGallery(corrected, corrected if gallery is query else self(gallery))
        sides = self.made.apply(query, gallery)
        return replace(sides, query=self._stated(query, sides.query), gallery=self._stated(gallery, sides.gallery))

    def _stated(self, before: Features, after: Features) -> Features:
        """The corrected features, with what was done to them in their provenance."""
        if after is before:
            return before
        # The digest names the native vectors; work kept under it must not be found for the corrected ones.
        about = {key: value for key, value in before.provenance.items() if key != "digest"}
        return replace(after, provenance={**about, "correction": self.name, "fitted_on": self.split})


CORRECTIONS: dict[str, Correction] = {}


def register(
    name: str,
    *,
    transductive: bool = False,
    claims: Mapping[str, int] | None = None,
    model_alone: bool = False,
    control: bool = False,
) -> Callable[[Fit], Fit]:
    """Make a correction known by name to studies, the command line, the widgets and the notebooks.

    The decorated function takes a `Calibration` and the correction's options as keywords with defaults, and gives a
    map of `Features`, or a `ScoreCorrection`.

    Args:
        name: as in tables.
        transductive: it sees what is judged, whatever it is fitted on; every table will say so.
        claims: comparison to the sign (1, -1) of the difference that its authors claim.
        model_alone: it reads the calibration's model only (and the dimension of its features), so that it can be had
            for a data set without a split to be fitted on.
        control: it is what another correction is compared with; its rows in a table carry no verdict.

    A name may be registered again by the code that registered it: a notebook's cell that is run twice, a module that is
    loaded again. The newer one counts, and a warning says so.

    Raises:
        XgapError: the name is taken by other code.
    """

    def add(maker: Fit) -> Fit:
        if name in CORRECTIONS:
            taken = CORRECTIONS[name].maker
            if not _same_code(taken, maker):
                what = f"there is a correction named {name!r} already, from {'.'.join(_origin(taken))}"
                raise XgapError(f"{what}; register yours under another name")
            warnings.warn(f"the correction {name!r} is replaced by its new definition", stacklevel=2)
        CORRECTIONS[name] = Correction(name, maker, {}, transductive, dict(claims or {}), model_alone, control)
        return maker

    return add


def _same_code(before: Fit, after: Fit) -> bool:
    """Whether one is a new definition of the other; the cells of a notebook are one piece of code."""
    where = _origin(after)
    return _origin(before) == where or (_origin(before)[0] == where[0] == "__main__")


def _origin(maker: Fit) -> tuple[str, str]:
    """The module and the name that a function (or what is made of one) was defined with."""
    function = getattr(maker, "func", maker)  # of a functools.partial
    return function.__module__, getattr(function, "__qualname__", type(function).__qualname__)


def correction(name: "str | Correction", **options: Any) -> Correction:
    """A correction by name, with options: `correction("pca-text", rank=64)` or `correction("pca-text(rank=64)")`.

    Raises:
        XgapError: an unknown name or option (the nearest are told).
    """
    if isinstance(name, Correction):
        return replace(name, options={**name.options, **options}) if options else name
    base, bracket, rest = name.partition("(")
    if bracket:
        options = {**_parse(name, rest), **options}
    if base not in CORRECTIONS:
        for entry in entry_points(group=ENTRY_POINTS):
            entry.load()  # importing it registers what it brings
    if base not in CORRECTIONS:
        raise unknown_name("correction", base, CORRECTIONS)
    known = list(inspect.signature(CORRECTIONS[base].maker).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {base}", option, known)
    return replace(CORRECTIONS[base], options=options)


def _parse(whole: str, inside: str) -> dict[str, Any]:
    """The options of `name(key=value, ...)`; a value that is no Python literal is a string."""
    wrong = XgapError(f"a correction with options is written like pca-text(rank=64, words=classes), not {whole!r}")
    if not inside.endswith(")"):
        raise wrong
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
    except SyntaxError as error:
        raise wrong from error
    if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
        raise wrong
    options = {}
    for word in call.keywords:
        try:
            options[str(word.arg)] = ast.literal_eval(word.value)
        except ValueError:
            options[str(word.arg)] = ast.unparse(word.value)
    return options
