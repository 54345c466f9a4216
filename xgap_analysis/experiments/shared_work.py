"""The work of a study that several processes share: features, item by item, before one process scores them.

What depends on all items (corrections, learned scorers, filters, views that fit something, scores, tests) is never
computed on a share. It is computed once, by the process that goes on, from the union of the rows in the store.
"""

import functools
import importlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import modules_to_import
from xgap_analysis.datasets import DATASETS
from xgap_analysis.datasets.items import AnyItems
from xgap_analysis.experiments.axes import cells_of, settings_of
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.plan import needed_views, parts_of
from xgap_analysis.store import Store
from xgap_analysis.store.engines import Local, Ranks, Ray, engine
from xgap_analysis.store.entries import Lacking
from xgap_analysis.store.tasks import Unwritable
from xgap_analysis.views import Precomputed, View
from xgap_analysis.views.native import native, native_view
from xgap_analysis.views.remote import modules_of_model
from xgap_analysis.views.sharing import NothingRead, contents_of, end_of_share, gone_ranks, waiting_store
from xgap_analysis.views.view import elsewhere

if TYPE_CHECKING:
    from xgap_analysis.experiments.study import Study

SENT = (
    "device",
    "label_set",
    "split",
    "fit_split",
    "seeds",
    "steps",
    "tokens",
    "limit",
    "on_error",
    "precision",
    "batch_size",
)
FUNCTION = f"{__name__}:fill"


@dataclass(frozen=True)
class Work:
    """Features that an evaluation needs: a view of a part of its items, or of those of the fit split."""

    view: View
    part: str
    seed: int | None = None
    of_fit: bool = False


@dataclass
class Share(Evaluation):
    """An evaluation of some of its items.

    Args:
        chosen: gives those of a part of the items; the same ones for all views.
    """

    chosen: Callable[[AnyItems], AnyItems] = field(default=lambda items: items, kw_only=True)

    def items(self, modality: str, part: str) -> AnyItems:
        """The items of a part that are in the share, which may be none."""
        return self.chosen(super().items(modality, part))


def table_work(evaluation: Evaluation) -> list[Work]:
    """What `Study.run` computes item by item: the views of its cells, and native features of the fit split."""
    study = evaluation.study
    cells = [one for cell in cells_of(study) for one in (cell, cell.baseline) if one is not None]
    work = _by_item(evaluation, needed_views(evaluation))
    fit = evaluation.fit_data
    if fit is not None and any(str(cell.correction) != "none" and not cell.correction.from_model for cell in cells):
        own = {native_view(modality): {"all"} for modality in fit.items}
        work += [replace(one, of_fit=True) for one in _by_item(evaluation, own)]
    if fit is not None and any(cell.scorer.is_unfitted for cell in cells):
        there = replace(evaluation, data=fit, fit_data=None)
        work += [replace(one, of_fit=True) for one in _by_item(there, needed_views(there))]
    return list(dict.fromkeys(work))


def gap_work(evaluation: Evaluation) -> list[Work]:
    """What `Study.gaps` and `Study.gap_table` compute item by item: native features of all modalities."""
    return _by_item(evaluation, {native_view(modality): {"all"} for modality in evaluation.data.items})


def _by_item(evaluation: Evaluation, needed: Mapping[View, set[str]]) -> list[Work]:
    """Views whose rows depend on one item each; of another view, which may fit something, the native features."""
    work, towers = [], getattr(evaluation.model, "towers", {})
    for joined, parts in needed.items():
        for own in [joined] if joined.is_by_item else parts_of(joined):
            one = own if own.is_by_item else native_view(own.modality)
            if one.function is native and one.modality not in towers:
                continue
            seeds = evaluation.study.seeds if one.is_seeded else (None,)
            work += [Work(one, evaluation.part_of(one, part), seed) for part in sorted(parts) for seed in seeds]
    return work


def shared(study: "Study", work_of: Callable[[Evaluation], Sequence[Work]]) -> "Study":
    """Computes what a study needs item by item, by its engine.

    Args:
        study: with an engine.
        work_of: what is computed of each evaluation.

    Returns:
        The study that goes on in this process, and finds what is computed in the store.

    Raises:
        ShareStored: this process is a rank that does not wait for the others.
        XgapError: a store that cannot be written; for engine ray, a model, dataset or view that no fresh process could
            find by its name, or workers that failed.
    """
    by = engine(study.engine)
    if isinstance(by, Local):
        return study
    store = study.store or Store()
    if isinstance(by, Ray):
        _by_workers(by, replace(study, store=store), work_of)
    else:
        study = replace(study, device=by.device(study.device))
        _by_ranks(by, replace(study, store=store), work_of)
    # Workers have tried kept failures again; of a rank that is gone, this process does.
    return replace(study, engine="local", store=Store(store.root) if isinstance(by, Ray) else store)


def _evaluations(study: "Study") -> Iterator[tuple[Any, Any, Evaluation]]:
    """The evaluations of a study before any filter, each with its model and dataset as they were given."""
    for _, one in settings_of(replace(study, only=None, engine="local")):
        one = replace(one, only=None)
        for (model, dataset), made in zip(itertools.product(one.models, one.datasets), one.evaluations(), strict=True):
            if not isinstance(made.model, Precomputed):
                yield model, dataset, made


def _part(evaluation: Evaluation, of_fit: bool) -> Evaluation:
    """The evaluation, or that of its fit split."""
    if not of_fit or evaluation.fit_data is None:
        return evaluation
    return replace(evaluation, data=evaluation.fit_data, fit_data=None)


def _done(evaluation: Evaluation, work: Work) -> int:
    """Computes (or reads) the features of some work; the number of its items."""
    items = evaluation.items(work.view.modality, evaluation.part_of(work.view, work.part))
    if len(items):
        evaluation.view(work.view, work.part, work.seed)
    return len(items)


def _by_ranks(by: Ranks, study: "Study", work_of: Callable[[Evaluation], Sequence[Work]]) -> None:
    """Computes the share of a rank, and waits for those of the others, or ends."""
    store = study.store or Store()
    mine, shared_works = 0, list[list[Work]]()
    refused: list[XgapError] = []
    for _, _, made in _evaluations(study):
        shares = {of_fit: _shares_of(_part(made, of_fit))(by.owns) for of_fit in (False, True)}
        shared_works.append([])
        for work in work_of(made):
            try:
                mine += _done(shares[work.of_fit], work)
            except Unwritable:
                raise
            except NothingRead:  # of this share: there may be others
                pass
            except XgapError as error:  # a row of the table will say it
                refused.append(error)
                continue
            shared_works[-1].append(work)
    if refused and not any(shared_works):
        raise refused[0]
    for reason in dict.fromkeys(map(str, refused)):
        warnings.warn(f"{by} left features out: {reason}", stacklevel=2)
    if by.waits:
        _wait(by, store, study, shared_works)
        return
    total, owed = _counted(replace(study, store=store.reading()), shared_works)
    raise end_of_share(by, mine, total, owed)


def _wait(by: Ranks, store: Store, study: "Study", works: Sequence[Sequence[Work]]) -> None:
    """Waits for the rows of others, view by view, and computes what does not come. What is lacking of a rank that was
    waited for in vain before is left to the process that goes on.
    """
    now: list[Callable[[int, frozenset[str]], bool]] = []  # whether a rank lacks rows of the view that is waited for
    gone = gone_ranks(by, store)
    study = replace(study, store=waiting_store(by, store, lambda rank, entries: now[-1](rank, entries)))
    for own, (_, _, made) in zip(works, _evaluations(study), strict=True):
        shares = {of_fit: _shares_of(_part(made, of_fit)) for of_fit in (False, True)}
        for work in own:
            some = shares[work.of_fit]
            now[:] = [functools.partial(_lacks, by, some, work, store.reading())]
            awaited = some(lambda digest: by.owner(digest) not in gone) if gone else _part(made, work.of_fit)
            try:
                _done(awaited, work)
            except Unwritable:
                raise
            except XgapError:  # said before, or by the process that goes on
                continue


def _lacks(by: Ranks, shares: "Shares", work: Work, reading: Store, rank: int, entries: frozenset[str]) -> bool:
    """Whether a rank owes rows of some work in one of these entries."""
    try:
        _done(shares(lambda digest: by.owner(digest) == rank, reading), work)
    except Lacking as lacking:
        return not entries.isdisjoint(lacking.entries)
    except XgapError:
        pass
    return False


def _counted(study: "Study", works: Sequence[Sequence[Work]]) -> tuple[int, int]:
    """Rows of works of each evaluation, and those that the study's store lacks."""
    total = owed = 0
    for own, (_, _, made) in zip(works, _evaluations(study), strict=True):
        for work in own:
            try:
                total += _done(_part(made, work.of_fit), work)
            except Lacking as lacking:
                total, owed = total + lacking.total, owed + lacking.n
            except XgapError:  # said before, or by the process that goes on
                continue
    return total, owed


Shares = Callable[..., Share]  # of whether a digest belongs to the share, and of the store if it is another


def _shares_of(evaluation: Evaluation) -> Shares:
    """A function that gives shares of an evaluation; what is read of the items for one serves the others."""
    kept: dict[tuple[str, ...], dict[str, str]] = {}

    def contents(items: AnyItems) -> dict[str, str]:
        key = (items.modality, *items.ids)
        if key not in kept:
            kept[key] = contents_of(evaluation.model, items, evaluation.study.on_error)
        return kept[key]

    def share(owns: Callable[[str], bool], store: Store | None = None) -> Share:
        def chosen(items: AnyItems) -> AnyItems:
            return items.select(item for item, content in contents(items).items() if owns(content))

        study = evaluation.study if store is None else replace(evaluation.study, store=store)
        return Share(study, evaluation.model, evaluation.data, evaluation.fit_data, chosen=chosen)

    return share


def _by_workers(by: Ray, study: "Study", work_of: Callable[[Evaluation], Sequence[Work]]) -> None:
    """Gives lists of items to the workers of a Ray cluster, one view after the other."""
    from xgap_analysis.store.actors import Task, started

    store = study.store or Store()
    for model, dataset in itertools.product(study.models, study.datasets):
        _modules(model, dataset)  # refused before a cluster is started
    reasons: dict[str, None] = {}
    with started(by, store) as workers:
        for model, dataset, made in _evaluations(study):
            for work in work_of(made):
                whole = _part(made, work.of_fit)
                try:
                    items = whole.items(work.view.modality, whole.part_of(work.view, work.part))
                except XgapError:  # no such items: a row of the table says so
                    continue
                task = Task(FUNCTION, _options(made.study, model, dataset, work, store))
                title = f"{work.view} with {made.model.name}"
                reasons |= dict.fromkeys(workers.run(task, items.ids, title, study.progress))
    for reason in reasons:
        warnings.warn(f"a Ray worker left items out: {reason}", stacklevel=2)


def _options(study: "Study", model: str, dataset: str, work: Work, store: Store) -> dict[str, Any]:
    """What a worker needs to compute some items of a work."""
    spelled, modules = elsewhere(work.view)
    return {
        "study": {
            "models": [model],
            "datasets": [dataset],
            "comparisons": ["I-I"],
            "axes": {axis: list(study.axes[axis]) for axis in ("oti.steps", "ovi.steps") if axis in study.axes},
            "progress": False,
            **{name: getattr(study, name) for name in SENT},
            "seeds": [int(seed) for seed in study.seeds],  # JSON has no numbers of NumPy
            "num_workers": study.num_workers or 0,  # workers are processes already, and each list of items is short
        },
        "imports": sorted({*_modules(model, dataset), *modules}),
        "store": {"root": str(store.root.absolute()), "retry_failed": store.retry_failed},
        "work": [spelled, work.part, work.seed, work.of_fit],
    }


def _modules(model: Any, dataset: Any) -> list[str]:
    """The modules that a fresh process imports, so that it knows a model and a dataset by their names.

    Raises:
        XgapError: an object in the place of a name, or a name that a notebook or a file of `--plugin` registered.
    """
    for kind, given in (("model", model), ("dataset", dataset)):
        if not isinstance(given, str):
            what = f"engine ray starts fresh processes, which load each {kind} by its name"
            raise XgapError(f"{what}, and {getattr(given, 'name', given)!r} is an object; use engine local or ranks")
    code: list[tuple[str, str, Any]] = []
    base = dataset.partition("(")[0].partition(":")[0]
    if base in DATASETS:
        code.append(("dataset", base, DATASETS[base].function))
    return sorted({*modules_of_model(model), *modules_to_import("engine ray", code)})


def fill(options: Mapping[str, Any], ids: Sequence[str]) -> None:
    """Computes some items of a work in a fresh process, and stores them; the model stays loaded for the next ones.

    Args:
        options: as `_options` gives them.
        ids: of the items.
    """
    for module in options["imports"]:
        importlib.import_module(module)
    made = _loaded(json.dumps(options["study"], sort_keys=True), **options["store"])
    name, part, seed, of_fit = options["work"]
    whole = _part(made, of_fit)
    some = Share(whole.study, whole.model, whole.data, whole.fit_data, chosen=lambda items: items.select(ids))
    some.view(name, part, seed)


@functools.lru_cache(maxsize=1)
def _loaded(study: str, root: str, retry_failed: bool) -> Evaluation:
    from xgap_analysis.experiments.study import Study

    return next(Study(**json.loads(study), store=Store(root, retry_failed=retry_failed)).evaluations())
