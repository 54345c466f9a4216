"""What a term of an objective is: a function of the features of a batch, what it needs of the batch, and the trainable
parameters that it brings; known by a name, with options.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.registry import Registry, check_values, name_of, options_of
from xgap_analysis.training.objectives.batch import BatchFeatures

Loss = Callable[..., Tensor]  # (batch, **options), or (batch, own parameters, **options) -> a number


@dataclass(frozen=True)
class Needs:
    """What a term needs of a batch, at least; training computes no more than the active terms need.

    Args:
        images: augmentations of an image; 0 leaves the image tower out.
        captions: captions of an image; 0 leaves the text tower out.
        scaled: it reads the scale of the logits, so that a learned temperature is trained.
        biased: it reads the bias of the logits, so that a model without one gets one.
        teacher: it reads `BatchFeatures.teacher`, the batch through the model as it was before training, in which there
            is all that other terms and this one need of the batch itself.
        image_tokens, text_tokens: it reads the patches of images, the words of captions.
        extra: it reads further modalities, so many at least.
        pair_scores: it reads the scores that are given for pairs of items.
        is_caption: it reads `is_caption`, so that an item may have fewer captions than others, or none.
        pixels, ids: it reads the pixels of images, the token ids of captions.
        dropped: modalities that a recipe may leave out of some items (`Recipe.dropout`), whose rows are zero then:
            `("image", "text")`, or further ones.
        towers: it encodes something of its own, so that the batch cannot be taken in parts (`micro_batch`).
        reader: it has the language model of an adapter that reads both modalities predict words (`towers.next_words`).

    Raises:
        XgapError: neither images nor captions, a number below 0, or tokens, pixels, ids or scores of what it
            does not look at.

    Example:
        >>> import xgap_analysis as xg
        >>> needs = xg.Needs(images=2, captions=0)  # two augmentations of each image, and no caption
        >>> needs.teacher
        False
    """

    images: int = 1
    captions: int = 1
    scaled: bool = False
    biased: bool = False
    teacher: bool = False
    image_tokens: bool = False
    text_tokens: bool = False
    extra: int = 0
    pair_scores: bool = False
    is_caption: bool = False
    pixels: bool = False
    ids: bool = False
    dropped: tuple[str, ...] = ()
    towers: bool = False
    reader: bool = False

    def __post_init__(self) -> None:
        counts = (self.images, self.captions)
        if not all(isinstance(n, int) and n >= 0 for n in counts) or not any(counts):
            raise XgapError(f"a term needs images or captions of an item, 0 or more of each, not {counts}")
        for what, number, parts in (
            ("images", self.images, ("image_tokens", "pixels", "pair_scores")),
            ("captions", self.captions, ("text_tokens", "ids", "is_caption", "pair_scores")),
        ):
            without = [part for part in parts if getattr(self, part) and not number]
            if without:
                raise XgapError(f"a term that needs {without[0]} needs {what}=1 or more")
        if not isinstance(self.extra, int) or self.extra < 0:
            raise XgapError(f"a term needs 0 or more further modalities (extra), not {self.extra!r}")


def several_captions(*, k: int = 2) -> Needs:
    """What a term needs that contrasts k captions of an image."""
    return Needs(captions=k, scaled=True)


@dataclass(frozen=True)
class Sizes:
    """What the parameters of a term are made for.

    Args:
        dim: dimensions d of a feature.
        labels: classes of the training data.
        words: token ids that the text tower knows.
    """

    dim: int
    labels: int
    words: int = 0


Parameters = Callable[..., nn.Module]  # (sizes, **options) -> the module that the loss gets


@dataclass(frozen=True)
class Term:
    """One term of an objective; `str()` of it is its name in curves.

    Args:
        name: as registered.
        loss: `loss(batch, **options)`, of `BatchFeatures`, to a number; where the term has parameters of its own,
            `loss(batch, own, **options)`.
        needs: what the batch must hold, or a function of the options that says so.
        parameters: `parameters(sizes, **options)` makes the torch module of the term's own parameters. They are trained
            with the model and kept in the state of the run, and are no part of the trained model.
        options: given by the user; others keep the functions' defaults. Each function gets the options that it takes.

    Example:
        >>> import xgap_analysis as xg
        >>> term = xg.objective("arc-margin(margin=0.3)")
        >>> str(term), term.needs.images
        ('arc-margin(margin=0.3)', 1)
    """

    name: str
    loss: Loss
    needs: Needs | Callable[..., Needs] = field(default_factory=Needs)
    parameters: Parameters | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # a term is a key of an objective

    def __str__(self) -> str:
        return spelled(self.name, (), self.options)

    @property
    def needed(self) -> Needs:
        """What the batch must hold with these options.

        Raises:
            XgapError: `needs` gives something else.
        """
        if isinstance(self.needs, Needs):
            return self.needs
        found = self.needs(**self._own(self.needs, 0))
        if not isinstance(found, Needs):
            raise XgapError(f"needs of objective {self} must give a Needs, not {found!r}")
        return found

    @property
    def known_options(self) -> dict[str, Any]:
        """Every option that the term takes, with its default."""
        return {name: value for function, n in self._functions() for name, value in options_of(function, n).items()}

    def made(self, sizes: Sizes) -> nn.Module | None:
        """The module of its own parameters, drawn anew; None where it has none.

        Raises:
            XgapError: `parameters` gives something else than a torch module with parameters.
        """
        if self.parameters is None:
            return None
        module = self.parameters(sizes, **self._own(self.parameters, 1))
        if not isinstance(module, nn.Module) or not any(True for _ in module.parameters()):
            kind = type(module).__name__
            raise XgapError(f"parameters of objective {self} must give a torch module with parameters, not a {kind}")
        return module

    def __call__(self, batch: BatchFeatures, own: nn.Module | None = None) -> Tensor:
        """The term of a batch: a tensor without dimensions.

        Raises:
            XgapError: the loss gives something else.
        """
        leading = (batch,) if self.parameters is None else (batch, own)
        made = self.loss(*leading, **self._own(self.loss, len(leading)))
        if not isinstance(made, Tensor) or made.ndim:
            found = f"a tensor {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise XgapError(f"objective {self} must give one number, a tensor without dimensions, not {found}")
        return made

    def checked(self) -> "Term":
        """Itself.

        Raises:
            XgapError: an option that none of its functions takes (the nearest are given), or a value of another kind.
        """
        parameters = [p for function, n in self._functions() for p in _parameters(function, n)]
        known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        unknown = [option for option in self.options if option not in known]
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise unknown_name(f"option of {self.name}", unknown[0], known)
        for function, n in self._functions():
            check_values(self.name, function, n, self.options)
        _ = self.needed
        return self

    def _functions(self) -> list[tuple[Callable[..., Any], int]]:
        """Each function that options go to, with the number of parameters before them."""
        functions: list[tuple[Callable[..., Any], int]] = [(self.loss, 1 if self.parameters is None else 2)]
        functions += [] if self.parameters is None else [(self.parameters, 1)]
        return functions if isinstance(self.needs, Needs) else [*functions, (self.needs, 0)]

    def _own(self, function: Callable[..., Any], leading: int) -> dict[str, Any]:
        parameters = _parameters(function, leading)
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return dict(self.options)
        names = {p.name for p in parameters}
        return {name: value for name, value in self.options.items() if name in names}


OBJECTIVES: Registry[Term] = Registry("objective", lambda term: term.loss)


def register_objective(
    name: str, *, needs: Needs | Callable[..., Needs] | None = None, parameters: Parameters | None = None
) -> Callable[[Loss], Loss]:
    """Make a term known by name to `Recipe`, `xgap train` and `xgap objectives`.

    The decorated function takes the `BatchFeatures` of a batch (then, where `parameters` is given, the module that it
    made), and its options as keywords with defaults. It gives one number to be made small.

    Args:
        name: as in recipes.
        needs: what the batch must hold; an image and a caption of each item by default. Or a function of the options.
        parameters: `parameters(sizes, **options)` makes the torch module of the parameters that the term brings.

    Raises:
        XgapError: the name is taken by other code, or something that is not a function.

    Example:
        >>> from xgap_analysis.training.objectives import OBJECTIVES, register_objective
        >>> @register_objective("hinge")
        ... def hinge(batch, *, margin=0.2):
        ...     scores = batch.images[0] @ batch.texts[:, 0].T
        ...     return (margin + scores - scores.diagonal()[:, None]).clamp(min=0).mean()
        >>> str(objective("hinge(margin=0.1)"))
        'hinge(margin=0.1)'
        >>> OBJECTIVES.remove("hinge")
    """
    if needs is not None and not isinstance(needs, Needs) and not callable(needs):
        raise XgapError(f"needs of objective {name!r} is a Needs or a function of its options, not {needs!r}")

    def add(function: Any) -> Any:
        if not callable(function):
            raise XgapError(f"objective {name!r} must be a function, not {function!r}")
        term = Term(name, function, Needs() if needs is None else needs, parameters)
        OBJECTIVES.add(name, term)
        # On the function, so that it may itself stand where its name may stand.
        function.term = term
        return function

    return add


def objective(wanted: str | Call | Term | Loss, **options: Any) -> Term:
    """A term by name, with options (`"arc-margin(margin=0.3)"`), or a function of `BatchFeatures` as it is.

    Args:
        wanted: the name, the `Term`, or the function; one that is not registered needs an image and a caption.
        options: replace those in the notation.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or something that is not a term.

    Example:
        >>> objective("image-image", temperature=0.2).needed.images
        2
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        given = options_alone(wanted, "an objective")
        wanted = replace(OBJECTIVES[wanted.name], options=given)
    elif not isinstance(wanted, Term):
        if not callable(wanted) or inspect.isclass(wanted):
            raise XgapError(f"a term of an objective is a name, a Term or a function of a batch, not {wanted!r}")
        wanted = getattr(wanted, "term", None) or Term(name_of(wanted), wanted)
    return replace(wanted, options={**wanted.options, **options}).checked()


def _parameters(function: Callable[..., Any], leading: int) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())[leading:]
