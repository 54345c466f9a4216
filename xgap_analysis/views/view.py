"""What a view is: how the items of a modality become features. A function with options, known by a name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xgap_analysis.core.calls import Call, parse, spelled
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.mixed import joined
from xgap_analysis.core.registry import Registry, check_options, modules_to_import, name_of
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.store import Engine, engine
from xgap_analysis.store.engines import Local, Ray
from xgap_analysis.views.sharing import stored_by

LEADING = 2  # a view's function begins with (model, items)


@dataclass(frozen=True)
class View:
    """How items become features: `view(model, items) -> Features`; `str()` of it is its name, as `oti(steps=25)`.

    A view may give several vectors per item (`TokenFeatures`), as `patches` and `frames` do; those need a scorer.

    Args:
        name: as registered.
        function: `function(model, items, *arguments, **options)`.
        modality: of the items; `image+text` where it takes those of two modalities.
        space: where the features lie on the sphere: the modality whose encoder gave them.
        arguments, options: given by the user; other options keep the function's defaults.
        control: it stands beside another view, and nothing is claimed of it; tables give it no verdict.
        by_item: whether an item's rows depend on that item alone; see `register_view`.

    Example:
        >>> import xgap_analysis as xg
        >>> str(xg.view("oti", steps=25))
        'oti(steps=25)'
    """

    name: str
    function: Callable[..., AnyFeatures]
    modality: str
    space: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    control: bool = False
    by_item: bool = False

    def __str__(self) -> str:
        return spelled(self.name, self.arguments, self.options)

    def __call__(self, model: Any, items: Any, **context: Any) -> AnyFeatures:
        """The features of items.

        Args:
            model: whose towers encode.
            items: of the view's modality.
            context: what an evaluation offers (seed, store, progress, ...); the function gets what it has a parameter
                for, and the view's own options come first. An `engine` other than local (see `store.engines`) shares
                the work of a view by item.
        """
        by = engine(context.pop("engine", "local"))
        if not isinstance(by, Local):
            context = {**context, "store": self._stored_by(by, model, items, context)}
        offered = {name: value for name, value in context.items() if self.takes(name)}
        made = self.function(model, items, *self.arguments, **{**offered, **self.options})
        if not isinstance(made, AnyFeatures):
            raise XgapError(f"view {self} gave {type(made).__name__}; a view gives Features, one row per item")
        known = set(getattr(items, "ids", made.ids))
        strange = next((i for i in made.ids if i not in known), None)
        if strange is not None:  # the query's own item would stay in its gallery, and raise every score
            what = f"view {self} gave a row of id {strange!r}, which is not an item's"
            raise XgapError(f"{what}; keep the items' ids, as in dataclasses.replace(native, vectors=...)")
        return made

    def _stored_by(self, by: Engine, model: Any, items: Any, context: Mapping[str, Any]) -> Any:
        """The store in which the rows of all items are found, after an engine has computed them."""
        if not self.is_by_item:
            what = f"view {self} may depend on all items at once, and several processes compute items one by one"
            raise XgapError(f"{what}; register it with by_item=True if it does not, or use engine local")
        wanted, modules = elsewhere(self) if isinstance(by, Ray) else (self, [])
        options = {**{name: value for name, value in context.items() if name != "store"}, "wanted": wanted}
        return stored_by(by, model, items, of_view, options, store=context.get("store", "default"), modules=modules)

    def takes(self, option: str) -> bool:
        """Whether the function has a parameter of this name, or passes every option on."""
        parameters = inspect.signature(self.function).parameters
        passes = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        return option in parameters or passes

    @property
    def is_by_item(self) -> bool:
        """Whether an item's rows depend on that item alone: in this view, and in every view among its arguments."""
        return self.by_item and all(a.is_by_item for a in self.arguments if isinstance(a, View))

    @property
    def names(self) -> set[str]:
        """Its name and those of the views among its arguments."""
        return {self.name}.union(*(a.names for a in self.arguments if isinstance(a, View)))

    @property
    def is_control(self) -> bool:
        """Whether it is a control, or made of one."""
        return self.control or any(a.is_control for a in self.arguments if isinstance(a, View))

    def __hash__(self) -> int:
        return hash((str(self), self.function))

    @property
    def is_seeded(self) -> bool:
        """Whether the features depend on a seed: its own parameter, or one of a view among its arguments."""
        if "seed" in self.options:
            return False
        nested = [a for a in self.arguments if isinstance(a, View)]
        return any(v.is_seeded for v in nested) or "seed" in inspect.signature(self.function).parameters


@dataclass(frozen=True)
class _Entry:
    function: Callable[..., AnyFeatures]
    modality: str | None
    space: str | None
    control: bool
    by_item: bool


VIEWS: Registry[_Entry] = Registry("view", lambda entry: entry.function)


def register_view(
    name: str,
    *,
    modality: str | None,
    space: str | None = None,
    control: bool = False,
    by_item: bool = False,
) -> Callable[[Callable[..., AnyFeatures]], Callable[..., AnyFeatures]]:
    """Make a view known by name to studies, the command line, the widgets and the notebooks.

    The decorated function takes a model, items and its options (keywords with defaults), and gives `Features` with
    one row per item, in the items' order and under their ids, or `TokenFeatures` with several vectors for each.

    Args:
        name: as in tables.
        modality: of the items that it takes; None where it is that of the views among its arguments (`image+text` where
            they are of two).
        space: where its features lie; the modality by default.
        control: it is what another view is compared with; its rows in a table carry no verdict.
        by_item: whether an item's rows depend on that item alone, and what they cost is kept in the store. Then several
            processes may compute some of the items each (see `xgap study --engine`). Of any other view, which may fit
            something to all items, they compute the native features, and one process does the rest.

    Raises:
        XgapError: the name is taken by other code.

    Example:
        >>> import dataclasses
        >>> import xgap_analysis as xg
        >>> @xg.register_view("mirror", modality="image")
        ... def mirror(model, items):
        ...     mirrored = xg.encode(model, [image.transpose(0) for image in items], progress=False)
        ...     return dataclasses.replace(xg.encode(model, items, progress=False), vectors=mirrored.vectors)
        >>> images = xg.load_dataset("emoji").split("val").limit(1).images
        >>> len(xg.view("mirror")(xg.load_model("tiny"), images)) == len(images)
        True
        >>> VIEWS.remove("mirror")  # for this example only
    """

    def add(function: Callable[..., AnyFeatures]) -> Callable[..., AnyFeatures]:
        VIEWS.add(name, _Entry(function, modality, space or modality, control, by_item))
        return function

    return add


def view(wanted: "str | Call | View | Callable[..., AnyFeatures]", *arguments: Any, **options: Any) -> View:
    """A view by name, with options: `view("oti", steps=25)` or `view("oti(steps=25)")`; or a function as it is.

    A function that is not registered takes images, unless it says otherwise in the attributes `modality`, `space` and
    `control`.
    Any other word is the native view of a modality of that name (`"audio"`), where a dataset has one.

    Raises:
        XgapError: an unknown option (the nearest names are given), or something that is not a view.

    Example:
        >>> import xgap_analysis as xg
        >>> str(xg.view("oti", steps=25))
        'oti(steps=25)'
        >>> str(xg.view("fuse(image, oti(steps=25))"))
        'fuse(image, oti(steps=25))'
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        arguments, options = (*wanted.arguments, *arguments), {**wanted.options, **options}
        if wanted.name not in VIEWS:
            from xgap_analysis.views.native import native_view

            if arguments or options:  # a native view has none, so this is a mistyped name
                raise unknown_name("view", wanted.name, VIEWS)
            return native_view(wanted.name)
        entry = VIEWS[wanted.name]
        check_options("view", wanted.name, entry.function, LEADING, options)
        nested = tuple(_nested(argument) for argument in arguments)
        views = [a for a in nested if isinstance(a, View)]
        modality = entry.modality or joined([v.modality for v in views])
        space = entry.space or next((v.space for v in views), "")
        if not modality:
            raise XgapError(f"view {wanted.name!r} takes views as arguments: {wanted.name}(image, oti)")
        about = {"control": entry.control, "by_item": entry.by_item}
        return View(wanted.name, entry.function, modality, space, nested, options, **about)
    if isinstance(wanted, View):
        if not options:
            return wanted
        check_options("view", wanted.name, wanted.function, LEADING, options)
        return replace(wanted, options={**wanted.options, **options})
    if callable(wanted):
        check_options("view", getattr(wanted, "__name__", ""), wanted, LEADING, options)
        modality = getattr(wanted, "modality", "image")
        space, control = getattr(wanted, "space", modality), bool(getattr(wanted, "control", False))
        return View(name_of(wanted), wanted, modality, space, arguments, options, control)
    raise XgapError(f"a view is a name, a View or a function (model, items) -> Features, not {wanted!r}")


def of_view(model: Any, items: Any, *, wanted: View | str, **context: Any) -> AnyFeatures:
    """The features of a view, as a function that has a name in any process."""
    return view(wanted)(model, items, **context)


def elsewhere(own: View) -> tuple[str, list[str]]:
    """The notation of a view that gives the same view in a fresh process, and the modules that it imports first.

    Raises:
        XgapError: a view without a name, or one that a notebook or a file of `--plugin` registered.
    """
    try:
        same = view(str(own)) == own
    except XgapError:
        same = False
    if not same:
        what = f"engine ray starts fresh processes, which know views by their names, and view {own} has none"
        raise XgapError(f"{what}; register it in a module that can be imported, or use engine local")
    code = [("view", name, VIEWS[name].function) for name in sorted(own.names) if name in VIEWS]
    return str(own), modules_to_import("engine ray", code)


def _nested(argument: Any) -> Any:
    """An argument that is a view, by name or as a function; a path, a number or a list as it is."""
    if isinstance(argument, Call) or callable(argument) or (isinstance(argument, str) and argument in VIEWS):
        return view(argument)
    return argument
