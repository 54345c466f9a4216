"""Where items are computed: in this process, in several that share a folder (ranks), or by workers of a Ray cluster.

All engines write rows to one store, which nobody locks; whatever was begun by one engine is read and finished by any
other. They differ in who computes which item:

    local   this process computes what is lacking
    ranks   each of `world` processes computes the items that it owns, by a digest of their content
    ray     workers take lists of items one after the other, as they become free

A launcher numbers the ranks, by these variables:

    RANK, WORLD_SIZE (LOCAL_RANK)                                  torchrun and the like
    SLURM_PROCID, SLURM_NTASKS (SLURM_LOCALID)                     srun, where the first two are missing
    SLURM_ARRAY_TASK_ID, _COUNT, _MIN, _STEP                       a Slurm array, whose tasks do not start together

Processes that are started together inside each task of an array are numbered through: `task * processes + process` of
`tasks * processes`.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from xgap_analysis.core.calls import options_alone, parse, spelled
from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.registry import check_options, check_values

PATIENCE = 600.0  # seconds


@dataclass(frozen=True)
class Local:
    """This process computes everything."""

    def __str__(self) -> str:
        return "local"


@dataclass(frozen=True)
class Ranks:
    """One of several processes that share a folder; each computes the items that it owns.

    Args:
        rank: of this process, from 0.
        world: number of processes.
        waits: whether it waits for the others' rows, because all were started together.
        patience: seconds without a new row of the others, after which it computes what is still lacking.
        gpu: number of its GPU on its machine, where the launcher says it.

    Raises:
        XgapError: a rank that is not one of them, or no patience.

    Example:
        >>> import xgap_analysis as xg
        >>> from xgap_analysis.store.engines import Ranks
        >>> ranks = [Ranks(rank, 2) for rank in range(2)]
        >>> sum(one.owns("the digest of an item") for one in ranks)  # one of them does
        1
    """

    rank: int
    world: int
    waits: bool = False
    patience: float = PATIENCE
    gpu: int | None = None

    def __post_init__(self) -> None:
        check_count(self.world, "the number of ranks")
        check_count(self.rank, "a rank", 0)
        if self.rank >= self.world:
            raise XgapError(f"ranks count from 0 to {self.world - 1}, and this process has rank {self.rank}")
        if isinstance(self.patience, bool) or not isinstance(self.patience, int | float) or not self.patience > 0:
            raise XgapError(f"the patience of ranks is a number of seconds above 0, not {self.patience!r}")

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world}"

    def owner(self, digest: str) -> int:
        """The rank that computes an item: one for all that is computed from it, in every run of `world` ranks."""
        return int(hashlib.sha256(digest.encode(errors="surrogatepass")).hexdigest()[:15], 16) % self.world

    def owns(self, digest: str) -> bool:
        """Whether this rank computes the item; see `owner`."""
        return self.owner(digest) == self.rank

    def device(self, given: str | None) -> str | None:
        """The device that was given, or this rank's GPU where it sees several."""
        import torch

        count = torch.cuda.device_count()
        return f"cuda:{self.gpu % count}" if given is None and self.gpu is not None and count > 1 else given


@dataclass(frozen=True)
class Ray:
    """Workers of a Ray cluster, each of which loads the model once.

    Args:
        workers: their number; by default one for each GPU (or share of one) of the cluster, or for each of its cores.
        gpus: share of a GPU that a worker has, such as 0.5; by default 1 where the cluster has GPUs, else 0.
        address: of the cluster, such as `auto`; by default that of `RAY_ADDRESS`, or else a cluster is started on this
            machine for the time of the work.

    Raises:
        XgapError: no workers, or a negative share.
    """

    workers: int | None = None
    gpus: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_count(self.workers, "the number of workers of engine ray")
        if self.gpus is None:
            return
        if isinstance(self.gpus, bool) or not isinstance(self.gpus, int | float) or not 0 <= self.gpus < math.inf:
            raise XgapError(f"a worker has a share of a GPU of 0 or more, not {self.gpus!r}")
        if self.gpus > 1 and self.gpus % 1:
            raise XgapError(f"a worker has a share of a GPU of 0 to 1, or a whole number of GPUs, not {self.gpus!r}")

    def __str__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return spelled("ray", (), given)


Engine = Local | Ranks | Ray


class ShareStored(SystemExit):
    """The end of a rank that has computed its share and does not wait for the others.

    It ends a program with exit code 0, since nothing went wrong, and no step after it has all rows.

    Args:
        sentence: what is stored, what is owed by others, and what to do.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(0)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


def engine(wanted: str | Engine) -> Engine:
    """An engine by name, with options: `"local"`, `"ranks"`, `"ranks(patience=60)"`, `"ray(workers=4, gpus=0.5)"`.

    Raises:
        XgapError: an unknown name or option, or ranks that no launcher has numbered.

    Example:
        >>> from xgap_analysis.store import engine
        >>> str(engine("ray(workers=4)"))
        'ray(workers=4)'
    """
    if isinstance(wanted, Engine):
        return wanted
    if not isinstance(wanted, str):
        raise XgapError(f"an engine is one of {', '.join(ENGINES)}, with options or without, not {wanted!r}")
    call = parse(wanted)
    if call.name not in ENGINES:
        raise unknown_name("engine", call.name, ENGINES)
    make, options = ENGINES[call.name], options_alone(call, "an engine")
    check_options("engine", call.name, make, 0, options)
    check_values(call.name, make, 0, options)
    return make(**options)


def _ranks(patience: float = PATIENCE) -> Ranks:
    return ranks_of(os.environ, patience)


ENGINES: Mapping[str, Callable[..., Engine]] = {"local": Local, "ranks": _ranks, "ray": Ray}


def ranks_of(environment: Mapping[str, str], patience: float = PATIENCE) -> Ranks:
    """Which rank a process is, by the variables of its launcher; see this module.

    Args:
        environment: of the process.
        patience: see `Ranks`.

    Raises:
        XgapError: no launcher, a variable that is missing or no number, numbers of an array with gaps, or several tasks
            of Slurm of which srun has started none.
    """
    together, task = _started_together(environment), _of_array(environment)
    if together is None and task is None:
        what = "engine ranks needs a launcher that numbers the processes"
        raise XgapError(
            f"{what}: torchrun (RANK, WORLD_SIZE), srun (SLURM_PROCID, SLURM_NTASKS) or a Slurm array "
            "(SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_COUNT); none of these is set, so leave --engine out"
        )
    rank, world, gpu = together or (0, 1, None)
    number, tasks = task or (0, 1)
    return Ranks(number * world + rank, tasks * world, task is None, patience, gpu)


def _started_together(environment: Mapping[str, str]) -> tuple[int, int, int | None] | None:
    """Rank, number of ranks and number of the GPU of a process that torchrun or srun has started."""
    if "RANK" in environment or "WORLD_SIZE" in environment:
        gpu = _number(environment, "LOCAL_RANK") if "LOCAL_RANK" in environment else None
        return _number(environment, "RANK"), _number(environment, "WORLD_SIZE"), gpu
    if "SLURM_PROCID" not in environment or "SLURM_NTASKS" not in environment:
        return None
    rank, world = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS")
    if world > 1 and "SLURM_STEP_ID" not in environment:  # the batch script itself, which runs once
        what = f"this job has {world} tasks (SLURM_NTASKS), but srun did not start this process (no SLURM_STEP_ID)"
        raise XgapError(f"{what}: write srun before the command")
    if world == 1 and "SLURM_ARRAY_TASK_ID" in environment:
        return None
    return rank, world, _number(environment, "SLURM_LOCALID") if "SLURM_LOCALID" in environment else None


def _of_array(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Which task of a Slurm array, from 0, and the number of tasks."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    task, count = (_number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT"))
    first, step = (
        _number(environment, f"SLURM_ARRAY_TASK_{name}") if f"SLURM_ARRAY_TASK_{name}" in environment else default
        for name, default in (("MIN", 0), ("STEP", 1))
    )
    number, left = divmod(task - first, max(step, 1))
    if left or not 0 <= number < count:
        what = f"the {count} tasks of this Slurm array, from {first} on, have numbers with gaps ({task} is one)"
        raise XgapError(f"{what}; submit it with numbers in a row, such as --array=0-{max(count - 1, 0)}")
    return number, count


def _number(environment: Mapping[str, str], name: str) -> int:
    given: Any = environment.get(name, "")
    if not given.strip().isdigit():
        raise XgapError(f"engine ranks needs a number in the variable {name}, not {given!r}")
    return int(given)
