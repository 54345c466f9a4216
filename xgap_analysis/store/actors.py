"""The workers of the engine `ray`: actors that take lists of items as they become free, and write to the store.

A task is the name of a function and plain data, so that a worker needs nothing of the process that began the work but
this package and the folder of the store. Ray sees ids going out and sentences coming back; rows go to the store.
"""

import contextlib
import importlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import Bar
from xgap_analysis.store.engines import Ray
from xgap_analysis.store.entries import Store
from xgap_analysis.store.shards import temporary_name

LIVES = 3  # times that a worker is started again, and that a list of items is given out again
STARTS = 3  # of a cluster on this machine, whose parts must be there within 15 seconds (ray-project/ray#65983)
LEAST, ROUNDS = 64, 8  # items of a list; lists of a worker, so that none waits long for the slowest
MEMORY = 100 * 2**20  # bytes for Ray's own store of objects: nothing large goes through it
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Task:
    """A computation as a fresh process can run it.

    Args:
        function: `module:function`, of `(options, ids)`.
        options: plain data, as JSON has it.
    """

    function: str
    options: Mapping[str, Any]


class Worker:
    """What an actor runs: it keeps what the task's function keeps, such as a loaded model."""

    def run(self, function: str, options: str, ids: Sequence[str], mark: str) -> str:
        """Compute items; an empty string, or why that cannot be done."""
        if not Path(mark).exists():
            where = Path(mark).parent
            return (
                f"the feature store {where} is not the same folder on a worker's machine; set XGAP_HOME to one that is"
            )
        module, _, name = function.partition(":")
        try:
            getattr(importlib.import_module(module), name)(json.loads(options), list(ids))
        except (XgapError, ModuleNotFoundError) as error:
            return " ".join(str(error).split())
        return ""


@dataclass(frozen=True, eq=False)
class Workers:
    """Workers that were started; see `started`."""

    pool: Any
    n: int
    mark: Path

    def run(self, task: Task, ids: Sequence[str], description: str, progress: bool = True) -> list[str]:
        """Computes items by all workers.

        Returns:
            Why some of them could not be computed, each reason once.

        Raises:
            XgapError: a worker that failed otherwise, or that was ended and started again too often.
        """
        from ray.exceptions import RayActorError, RayTaskError

        size = max(LEAST, -(-len(ids) // (ROUNDS * self.n)))
        lists = [list(ids[i : i + size]) for i in range(0, len(ids), size)]
        options, mark = json.dumps(task.options), str(self.mark)
        reasons: dict[str, None] = {}
        with Bar(total=len(lists), desc=description, unit="list", disable=not progress) as bar:
            try:
                for reason in self.pool.map_unordered(
                    lambda actor, some: actor.run.remote(task.function, options, some, mark), lists
                ):
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


@contextlib.contextmanager
def started(by: Ray, store: Store) -> Iterator[Workers]:
    """Workers on a cluster, which is started on this machine where there is none, and ended after the work.

    Raises:
        XgapError: Ray is not installed or cannot start, or the cluster has less than is wanted.
    """
    try:
        with _environment(QUIET):
            import ray
            from ray.util import ActorPool
    except ModuleNotFoundError as error:
        raise XgapError("engine ray needs ray, which an extra installs: pip install 'xgap-analysis[ray]'") from error
    own = not ray.is_initialized()
    address = by.address or os.environ.get("RAY_ADDRESS")
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        mark = store.root / temporary_name()
        mark.touch()
    except OSError as error:
        raise XgapError(f"the feature store {store.root} cannot be written ({error.strerror or error})") from error
    try:
        if own:
            _connect(address, by)
        n, share = _number(by, ray.cluster_resources())
        actor = ray.remote(num_cpus=1, num_gpus=share, max_restarts=LIVES, max_task_retries=LIVES)(Worker)
        actors = [actor.remote() for _ in range(n)]
        yield Workers(ActorPool(actors), n, mark)
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
            with _environment(QUIET):
                ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, **how)
            return
        except Exception as error:  # Ray's own kind where a part of it is late, which a busy machine makes likely
            ray.shutdown()
            if not left:
                where = (
                    "Ray cannot be started on this machine" if own else f"no Ray cluster can be reached at {address}"
                )
                raise XgapError(f"{where} ({' '.join(str(error).split())})") from error


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
