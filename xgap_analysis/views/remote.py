"""Features of items by fresh processes, the workers of a Ray cluster: what they are given, and what they do with it.

A process loads the model by its name and is handed the items of each list themselves, which it must be able to unpack:
paths, captions, features, functions of modules that can be imported.
"""

import contextlib
import functools
import importlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.registry import modules_to_import, origin
from xgap_analysis.datasets.reading.readers import handed
from xgap_analysis.models import load_model
from xgap_analysis.models.catalog import check_name
from xgap_analysis.models.registered import MODELS
from xgap_analysis.models.tower import Model
from xgap_analysis.store import Store
from xgap_analysis.store.engines import Ray
from xgap_analysis.views.pace import Pace, paced

FUNCTION = f"{__name__}:fill"
FRESH = "engine ray starts fresh processes"


def by_workers(
    by: Ray,
    model: Model,
    items: Any,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    store: Store,
    modules: Sequence[str],
) -> None:
    """Computes features of items by the workers of a Ray cluster, each of which loads the model by its name.

    Args:
        by, model, items, function, options, store, modules: see `sharing.stored_by`.

    Raises:
        XgapError: a model, items or options that no fresh process can be given, or workers that failed.
    """
    from xgap_analysis.store.actors import Task, started

    progress = bool(options.get("progress", True))
    options = {**options, "progress": False}
    needed = {
        "model": _by_name(model),
        "identity": _identity(model),
        "imports": sorted({*modules_of_model(model.name), *modules}),
        "function": ":".join(origin(function)),
        "options": options,
        "store": {"root": str(store.root.absolute()), "retry_failed": store.retry_failed},
    }
    try:
        json.dumps(needed)
    except TypeError as error:
        raise XgapError(f"{FRESH}, which take options as plain data ({error}); use engine local or ranks") from error
    _handed(items, items.ids[:1])  # refused before a cluster is started
    task = Task(FUNCTION, needed, functools.partial(_handed, items))
    with started(by, store) as workers:
        title = f"{options.get('wanted', function.__name__)} with {model.name}"  # of a view, its name
        reasons = workers.run(task, items.ids, title, progress)
    if reasons:
        raise XgapError(f"a Ray worker left items out: {reasons[0]}")


def modules_of_model(name: str) -> list[str]:
    """The modules that a fresh process imports, so that it knows a model by its name.

    Raises:
        XgapError: a name that a notebook or a file of `--plugin` registered.
    """
    base = name.partition("(")[0]
    return modules_to_import("engine ray", [("model", base, MODELS[base].function)] if base in MODELS else [])


def _by_name(model: Model) -> dict[str, Any]:
    """How a fresh process loads the model.

    Raises:
        XgapError: it has no name that could be loaded.
    """
    activation = model.activation or None
    try:
        check_name(model.name, activation)
    except XgapError as error:
        raise XgapError(f"{FRESH}, which load a model by its name: {error}; or use engine local or ranks") from error
    device = None if model.device.type == "cuda" else model.device.type  # a worker has a GPU of its own
    return {"name_or_path": model.name, "precision": model.precision, "activation": activation, "device": device}


def _identity(model: Model) -> str:
    """What a model of one name must have in common everywhere: its weights, or what it computes where it has none."""
    return model.weights_digest or model.fingerprint


def _handed(items: Any, ids: Sequence[str]) -> bytes:
    """Some items as a fresh process is given them.

    Raises:
        XgapError: they hold what no other process could unpack.
    """
    some = items.select(ids)
    if isinstance(some, Features):
        some = (np.asarray(some), some.ids, some.space, some.origin, dict(some.provenance), some.items)
    content = handed(some)
    if content is None:
        kind = "features" if isinstance(items, Features) else f"{items.modality}s"
        what = f"{FRESH}, and these {kind} cannot be handed to one (images in memory, or functions of a notebook)"
        raise XgapError(f"{what}; give paths, captions or items of a dataset, or use engine local or ranks")
    return content.getvalue()


def fill(options: Mapping[str, Any], given: bytes) -> None:
    """Computes features of the items that a worker was handed, and stores them; the model stays loaded.

    Args:
        options: as `by_workers` gives them.
        given: as `_handed` gives it.

    Raises:
        XgapError: another model under the name than the process has that began the work; or what the function raises.
    """
    from xgap_analysis.views.sharing import NothingRead

    for module in options["imports"]:
        importlib.import_module(module)
    model = _loaded(**options["model"])
    if _identity(model) != options["identity"]:
        what = f"the model that {model.name!r} names has other weights than the one that was given"
        raise XgapError(f"{FRESH}, where {what}; save it and load it by its path, or use engine local or ranks")
    some = pickle.loads(given)  # by Ray, from the process that began the work
    items = Features(*some) if isinstance(some, tuple) else some
    module, _, name = options["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    store = Store(options["store"]["root"], retry_failed=options["store"]["retry_failed"])
    # Workers are processes already, and each list is short; of a list in which nothing was read there may be others.
    with contextlib.suppress(NothingRead), paced(Pace(num_workers=0)):
        function(model, items, store=store, **options["options"])


@functools.lru_cache(maxsize=1)
def _loaded(**how: Any) -> Model:
    return load_model(**how)
