"""The workers of the engine `ray`: actors that take lists of items as they become free, and write to the store.

A task is the name of a function and plain data, so that a worker needs nothing of the process that began the work but
this package and the folder of the store. Ray sees ids going out and sentences coming back; rows go to the store.
"""

import contextlib
import importlib
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import Bar, is_watched
from xgap_analysis.store.engines import Ray
from xgap_analysis.store.entries import Store
from xgap_analysis.store.shards import temporary_name

LIVES = 3  # times that a worker is started again, and that a list of items is given out again
STARTS = 3  # of a cluster on this machine, whose parts must be there within 15 seconds (ray-project/ray#65983)
LEAST, ROUNDS = 64, 8  # items of a list; lists of a worker, so that none waits long for the slowest
LOOK, LATE = 1.0, 10.0  # seconds between two looks at the workers; without room in the cluster before it is said
MEMORY = 100 * 2**20  # bytes for Ray's own store of objects: nothing large goes through it
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Task:
    """A computation as a fresh process can run it.

    Args:
        function: `module:function`, of `(options, given)`.
        options: plain data, as JSON has it.
        given: what the function is given of a list of ids; by default the list.
    """

    function: str
    options: Mapping[str, Any]
    given: Callable[[Sequence[str]], Any] = list


class Worker:
    """What an actor runs: it keeps what the task's function keeps, such as a loaded model."""

    def ready(self) -> None:
        """Nothing, as soon as the worker has what it needs of the cluster."""

    def run(self, function: str, options: str, given: Any, mark: str) -> str:
        """Compute items; an empty string, or why that cannot be done."""
        if not Path(mark).exists():
            where = Path(mark).parent
            return (
                f"the feature store {where} is not the same folder on a worker's machine; set XGAP_HOME to one that is"
            )
        module, _, name = function.partition(":")
        try:
            getattr(importlib.import_module(module), name)(json.loads(options), given)
        except (XgapError, ModuleNotFoundError) as error:
            return " ".join(str(error).split())
        return ""


class Workers:
    """The workers of one computation; see `started`.

    Each takes lists of items as soon as the cluster has room for it; no list waits for a worker that has not begun.

    Args:
        n: their number.
        needs: what each has of the cluster, by the name of the resource.
        mark: a file in the folder of the store, by which a worker sees that it is the same folder.
    """

    def __init__(self, n: int, needs: Mapping[str, float], mark: Path) -> None:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as In

        self.n, self.mark, self._needs = n, mark, needs
        # A room of its own for each says whether a worker has what it needs, or is about to begin.
        self._rooms = [placement_group([dict(needs)]) for _ in range(n)]
        cores, gpus = needs["CPU"], needs.get("GPU", 0.0)
        made: Any = ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=LIVES, max_task_retries=LIVES)(Worker)
        actors = [made.options(scheduling_strategy=In(room)).remote() for room in self._rooms]
        self._starting = {actor.ready.remote(): actor for actor in actors}  # type: ignore[attr-defined]
        self._idle: list[Any] = []
        self._since, self._said = time.monotonic(), False

    def end(self) -> None:
        """Gives back what they have of the cluster, which ends them."""
        from ray.util.placement_group import remove_placement_group

        for room in self._rooms:
            remove_placement_group(room)

    def run(self, task: Task, ids: Sequence[str], description: str, progress: bool = True) -> list[str]:
        """Computes items by all workers.

        Returns:
            Why some of them could not be computed, each reason once.

        Raises:
            XgapError: a worker that failed otherwise, or that was ended and started again too often.
        """
        from ray.exceptions import RayActorError, RayTaskError

        size = max(LEAST, -(-len(ids) // (ROUNDS * self.n)))
        lists = deque(list(ids[i : i + size]) for i in range(0, len(ids), size))
        reasons: dict[str, None] = {}
        with Bar(total=len(lists), desc=description, unit="list", disable=not progress) as bar:
            try:
                for reason in self._each(task, lists, bar, progress):
                    bar.update(1)
                    with contextlib.suppress(OSError):
                        self.mark.touch()  # so that it is never a day old, and taken for a dead process's
                    if reason:
                        reasons[reason] = None
            except RayActorError as error:
                what = f"a Ray worker ended more than {LIVES} times (out of memory, perhaps)"
                raise XgapError(f"{what}; what is stored stays, and the same command goes on from there") from error
            except RayTaskError as error:
                said = " ".join(str(error.cause).split())
                raise XgapError(f"a Ray worker failed with {type(error.cause).__name__}: {said}") from error
        return list(reasons)

    def _each(self, task: Task, lists: deque[list[str]], bar: Bar, progress: bool) -> Iterator[str]:
        """What workers say of each list, as they end."""
        import ray

        options, mark = json.dumps(task.options), str(self.mark)
        busy: dict[Any, Any] = {}
        while lists or busy:
            while lists and self._idle:
                actor = self._idle.pop()
                busy[actor.run.remote(task.function, options, task.given(lists.popleft()), mark)] = actor
            done, _ = ray.wait([*busy, *(self._starting if lists else ())], timeout=LOOK)
            for ref in done:
                result = ray.get(ref)
                if ref in self._starting:
                    self._idle.append(self._starting.pop(ref))
                else:
                    self._idle.append(busy.pop(ref))
                    yield result
            if not done:
                bar.update(0)  # a log shows that it goes on, and a watcher may cancel
                self._say(progress)

    def _say(self, progress: bool) -> None:
        """One line on what workers wait for, where the cluster has had no room for them for a while."""
        import ray
        from ray.util import placement_group_table

        if not self._starting or self._said or time.monotonic() - self._since < LATE:
            return
        waiting = sum(placement_group_table(room)["state"] != "CREATED" for room in self._rooms)
        if not waiting:  # a process takes some seconds to begin
            return
        self._said = True
        if progress and not is_watched():
            there, free = ray.cluster_resources(), ray.available_resources()
            needs = " and ".join(f"{need:g} {name}" for name, need in self._needs.items())
            has = " and ".join(f"{free.get(name, 0.0):g} of {there.get(name, 0.0):g} {name}s" for name in self._needs)
            what = f"{waiting} of {self.n} workers wait for resources"
            sys.stderr.write(f"ray: {what}: each needs {needs}, and of the cluster {has} are free\n")


@contextlib.contextmanager
def started(by: Ray, store: Store) -> Iterator[Workers]:
    """Workers on a cluster, which is started on this machine where there is none, and ended after the work.

    Raises:
        XgapError: Ray is not installed or cannot start, or the cluster has less than is wanted.
    """
    try:
        with _environment(QUIET):
            import ray
    except ModuleNotFoundError as error:
        raise XgapError("engine ray needs ray, which an extra installs: pip install 'xgap-analysis[ray]'") from error
    own = not ray.is_initialized()
    address = by.address or os.environ.get("RAY_ADDRESS")
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        mark = store.root.absolute() / temporary_name()  # workers of a cluster have folders of their own
        mark.touch()
    except OSError as error:
        raise XgapError(f"the feature store {store.root} cannot be written ({error.strerror or error})") from error
    try:
        if own:
            _connect(address, by)
        n, share = _number(by, ray.cluster_resources())
        workers = Workers(n, {"CPU": 1.0, **({"GPU": share} if share else {})}, mark)
        try:
            yield workers
        finally:
            if not own:
                workers.end()
    finally:
        mark.unlink(missing_ok=True)
        if own and ray.is_initialized():
            ray.shutdown()


def _connect(address: str | None, by: Ray) -> None:
    """Connects to a cluster, or starts one here; it reports to nobody."""
    import ray

    here: dict[str, Any] = {
        "num_cpus": max(by.workers or 1, os.cpu_count() or 1),
        "object_store_memory": MEMORY,
        "include_dashboard": False,
    }
    own = not address or address == "local"
    how: dict[str, Any] = here if own else {"address": address}
    for left in reversed(range(STARTS if own else 1)):
        try:
            with _environment(QUIET), _silent():
                ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, **how)
            return
        except Exception as error:  # Ray's own kind where a part of it is late, which a busy machine makes likely
            ray.shutdown()
            if not left:
                where = f"no Ray cluster can be reached at {address}"
                where = "Ray cannot be started on this machine" if own else where
                hint = "; try again when its cores are less busy, or give the address of a cluster" if own else ""
                raise XgapError(f"{where} ({' '.join(str(error).split())}){hint}") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps Ray's own notes away, such as those on its tokens."""
    log = logging.getLogger("ray")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _number(by: Ray, there: Mapping[str, float]) -> tuple[int, float]:
    """The number of workers, and the share of a GPU that each has."""
    gpus, cores = there.get("GPU", 0.0), int(there.get("CPU", 1.0))
    share = by.gpus if by.gpus is not None else min(gpus, 1.0)
    most = min(cores, int(gpus / share + 1e-9)) if share else cores
    wanted = by.workers or most
    if not 0 < wanted <= most:
        what = f"the Ray cluster has {cores} cores and {gpus:g} GPUs"
        raise XgapError(f"{what}: too few for {max(wanted, 1)} workers with {share:g} GPUs each; lower workers or gpus")
    return wanted, share


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that are set for as long as something starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
