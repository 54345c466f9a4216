"""What is compared: how the query is represented, how the gallery is represented, and the task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.views import VIEWS, View, view

TASKS = {"retrieval": "ap", "zero-shot": "correct_at_1"}  # task to its main measure
SHORT = {  # as the field abbreviates
    **{"I": "image", "T": "text", "A": "audio", "V": "video", "OTI": "oti", "OVI": "ovi"},
    **{"IT": "mixed(image, text)", "D": "document"},
}


@dataclass(frozen=True)
class Comparison:
    """A query view, a gallery view and a task.

    Args:
        name: as in tables, for example `"OTI-I"`.
        query, gallery: views, by name (`"image"`, `"oti(steps=25)"`, `"fuse(image, oti)"`) or as they are; a function
            `(model, items) -> Features` is a view too.
        task: `"retrieval"`, or `"zero-shot"` (the gallery is the class names).
        baseline: the comparison that its paired difference is taken from; its own name where it is the baseline.
        claim: the sign of that difference by "Cross the Gap" (ICLR 2025): 1 better, -1 worse, 0 none made.

    Raises:
        XgapError: an unknown view, option or task.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.Comparison("OTI(25)-I", xg.view("oti", steps=25), "image", baseline="I-I").name
        'OTI(25)-I'
    """

    name: str
    query: Any
    gallery: Any
    task: str = "retrieval"
    baseline: str = ""
    claim: int = 0

    def __post_init__(self) -> None:
        for part in ("query", "gallery"):
            object.__setattr__(self, part, view(getattr(self, part)))
        if self.task not in TASKS:
            raise XgapError(f'the task of a comparison is "retrieval" or "zero-shot", not {self.task!r}')
        if not self.baseline:
            object.__setattr__(self, "baseline", self.name)

    def __repr__(self) -> str:
        """The call that makes it again, with views by name."""
        given = [repr(self.name), repr(str(self.query)), repr(str(self.gallery)), f"task={self.task!r}"]
        return f"Comparison({', '.join(given)}, baseline={self.baseline!r}, claim={self.claim})"

    @property
    def metric(self) -> str:
        """The main measure of the task: mean average precision, or top-1 accuracy."""
        return TASKS[self.task]

    @property
    def views(self) -> tuple[View, View]:
        """Query view and gallery view."""
        return self.query, self.gallery

    @property
    def is_seeded(self) -> bool:
        """Whether the scores depend on a seed."""
        return any(v.is_seeded for v in self.views)

    @property
    def is_control(self) -> bool:
        """Whether one of its views is a control, so that nothing is claimed of it."""
        return any(v.is_control for v in self.views)

    def with_options(self, options: Mapping[str, Mapping[str, Any]]) -> "Comparison":
        """The comparison with options of views set by name: `{"oti": {"steps": 25}}`, nested views included."""
        query, gallery = (_with_options(v, options) for v in self.views)
        return self if (query, gallery) == self.views else replace(self, query=query, gallery=gallery)


def _with_options(one: View, options: Mapping[str, Mapping[str, Any]]) -> View:
    nested = tuple(_with_options(a, options) if isinstance(a, View) else a for a in one.arguments)
    own = options.get(one.name, {})
    if nested == one.arguments and not own:
        return one
    changed = replace(one, arguments=nested)
    return view(changed, **own) if own else changed


AnyComparison = str | Comparison | tuple[Any, Any]

COMPARISONS = {
    c.name: c
    for c in (
        Comparison("I-I", "image", "image"),
        Comparison("OTI-I", "oti", "image", baseline="I-I", claim=1),
        Comparison("OTI-OTI", "oti", "oti", baseline="I-I"),
        Comparison("I+OTI-I", "fuse(image, oti)", "image", baseline="I-I"),
        Comparison("T-T", "text", "text"),
        Comparison("OVI-T", "ovi", "text", baseline="T-T", claim=1),
        Comparison("OVI-OVI", "ovi", "ovi", baseline="T-T"),
        Comparison("T+OVI-T", "fuse(text, ovi)", "text", baseline="T-T"),
        Comparison("I-T", "image", "text"),
        Comparison("T-I", "text", "image"),
        Comparison("zero-shot", "image", "text", "zero-shot"),
        Comparison("OTI-T", "oti", "text", "zero-shot", baseline="zero-shot", claim=-1),
        Comparison("I-OVI", "image", "ovi", "zero-shot", baseline="zero-shot", claim=-1),
    )
}


def comparison(wanted: AnyComparison, known: Mapping[str, Comparison] = COMPARISONS) -> Comparison:
    """A comparison by name; or of any two views, by name (`"A-T"`, `"I-IT"`, `"oti(steps=25)-image"`) or as a pair.

    The gallery of `I-IT` and `T-IT` is mixed: images and texts in one ranking. `T-D` searches documents.

    Args:
        wanted: a name, a `Comparison`, or `(query, gallery)`, each a view by name, a `View` or a function.
        known: comparisons by name.

    Raises:
        XgapError: an unknown name (the nearest are given).

    Example:
        >>> import xgap_analysis as xg
        >>> xg.comparison("OTI-I").baseline
        'I-I'
        >>> xg.comparison("oti(steps=25)-image").name
        'oti(steps=25)-image'
    """
    if isinstance(wanted, Comparison):
        return wanted
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise XgapError(f"a comparison is of a query view and a gallery view, not of {len(wanted)}")
        pair = [view(SHORT.get(v, v) if isinstance(v, str) else v) for v in wanted]
        return Comparison("-".join(map(str, pair)), query=pair[0], gallery=pair[1])
    if wanted in known:
        return known[wanted]
    made = []
    for at in (i for i, letter in enumerate(wanted) if letter == "-"):
        query, gallery = wanted[:at], wanted[at + 1 :]
        try:
            made.append(Comparison(wanted, SHORT.get(query, query), SHORT.get(gallery, gallery)))
        except XgapError:
            continue
    if not made:
        raise unknown_name("comparison", wanted, known)
    # Any word is the native view of a modality, so that in "my-view-image" the names that are registered decide.
    return min(made, key=lambda one: sum(v.name not in VIEWS for v in one.views))
