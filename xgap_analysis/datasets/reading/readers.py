"""Items opened ahead of the model: by threads, or by processes where there are many images and cores.

Decoding releases Python's lock, but about a millisecond an image is Python's own work, which the threads of a process
do one after another: beyond a few hundred images a second, processes are faster. Starting one takes seconds of a core
(it imports torch), during which the threads that are to wait for it read by themselves.
"""

import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.datasets.reading.opened import opened
from xgap_analysis.datasets.reading.serving import Decoders, Memory, raised

MANY = 1024  # items to be read that are worth the start of processes
ENOUGH_CORES = 4  # with fewer, the model and the threads keep all of them busy
MOST = 16  # threads or processes
HANDED = 2**28  # bytes of items; more, such as a list of images in memory, would be there once for each process
LARGE = 2**20  # numbers in a tensor; one that is larger is part of a model and no setting of a preprocess
PATIENCE = 0.0  # seconds that a read waits for the process to have started; until then its thread reads

# Modules are looked for where this process does, and not in the working directory first (not before Python 3.11).
_ALONE = ("-P",) if sys.version_info >= (3, 11) else ()
# Ctrl-C in a terminal goes to all processes: the one that started this one ends it, also while it imports.
_SERVE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from xgap_analysis.datasets.reading.serving import serve; serve(*map(int, sys.argv[1:]))"
)


def cores() -> int:
    """The processor's cores that this process may use, or its share of them where `torchrun` started several."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, usable // max(1, int(beside) if beside.isdecimal() else 1))


def processes_for(n: int, usable: int) -> int:
    """The number of processes that read n items, where nobody says how many; 0 for threads.

    With `MANY` items and `ENOUGH_CORES`, all cores but the one that feeds the model, `MOST` at most.
    """
    return min(MOST, usable - 1) if n >= MANY and usable >= ENOUGH_CORES else 0


def check_workers(workers: int | None) -> None:
    """Refuses what is no number of processes.

    Raises:
        XgapError: a number below 0, or something else.
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
        raise XgapError(f"num_workers is a number of processes, or 0 to read in threads, not {workers!r}")


class Readers:
    """Opens and prepares items of one list; a context manager, at whose end threads and processes end.

    What comes out depends on neither: items that cannot be pickled (functions of a notebook, say) are read by threads
    whatever is said.

    Args:
        items: list-like.
        prepare: what a tower makes of one item.
        workers: the number of processes; 0 for threads; None for `processes_for`.
        edge: see `drafted`.
    """

    def __init__(self, items: Any, prepare: Callable[[Any], Any], workers: int | None = None, edge: int = 0) -> None:
        self._items, self._prepare, self._workers, self._edge = items, prepare, workers, edge
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._processes: list[ReaderProcess] = []
        self._task: int | None = None
        self._warned: dict[Any, Any] = {}
        self.threads = min(MOST, cores())

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # so that a thread that waits for one goes on
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()
        if self._task is not None:
            os.close(self._task)
        self._pool, self._processes, self._task = None, [], None

    def begin(self, n: int) -> None:
        """Starts what reads, if it does not run yet, for n items or more."""
        if self._pool is not None:
            return
        wanted = processes_for(n, cores()) if self._workers is None else self._workers
        if wanted and os.name == "posix" and sys.executable:
            self._task = _task(self._items, self._prepare, self._edge)
        if self._task is not None:
            self._start(self._task, wanted)
        waiting = iter(list(self._processes))
        lock = threading.Lock()

        def take() -> None:
            with lock:
                self._own.process = next(waiting, None)

        self._pool = ThreadPoolExecutor(self.threads, "reader", take)

    def _start(self, task: int, wanted: int) -> None:
        try:
            for _ in range(wanted):
                self._processes.append(ReaderProcess(task, self._warned))
        except OSError as error:  # the system's limit of processes, files or memory
            what = (
                f"{len(self._processes)} of {wanted} processes that read could be started ({error.strerror or error})"
            )
            notice(f"{what}; threads read the rest")
        self.threads = max(wanted, 1)

    @property
    def about(self) -> str:
        """What reads, in words."""
        kind, n = ("processes", len(self._processes)) if self._processes else ("threads", self.threads)
        return f"{n} reading {kind}"

    def submit(self, rows: Sequence[int]) -> "Future[list[Any]]":
        """What `opened` gives for these rows, in time."""
        assert self._pool is not None  # begun
        return self._pool.submit(self._read, list(rows))

    def _read(self, rows: list[int]) -> list[Any]:
        process: ReaderProcess | None = self._own.process
        if process is None or not process.is_ready():
            return opened(self._items, self._prepare, rows, self._edge)
        try:
            return process.read(rows)
        except (EOFError, ConnectionError) as error:
            raise _ended(process, self._items, rows) from error


class ReaderProcess:
    """One process that opens items (see `serving`), used by one thread.

    Args:
        task: descriptor of a file with what is to be done.
        warned: which of its warnings were given already; as of a module.
    """

    def __init__(self, task: int, warned: dict[Any, Any]) -> None:
        self._warned = warned
        self._descriptor = _anonymous("memory")
        self._memory = Memory(self._descriptor)
        ours, theirs = socket.socketpair()
        self._talk = Connection(ours.detach())
        self._ready: bool | None = None
        handed = (theirs.fileno(), self._descriptor, task)
        quiet = {
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path),
        }
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *_ALONE, "-c", _SERVE, *map(str, handed)],
                    pass_fds=handed,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **quiet},
                )
            except OSError:
                os.close(self._descriptor)
                raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def is_ready(self) -> bool:
        """Whether it has started, and can read what is to be read."""
        if self._ready is None and self._talk.poll(PATIENCE):
            try:
                self._ready = self._talk.recv() is True
            except (EOFError, ConnectionError):
                self._ready = False
        return bool(self._ready)

    def read(self, rows: list[int]) -> list[Any]:
        """What `opened` gives for these rows.

        Raises:
            EOFError, ConnectionError: the process has ended.
        """
        try:
            self._talk.send(rows)
            reply, given = self._talk.recv()
        except OSError as error:  # a connection that ends within a message is no ConnectionError yet
            raise ConnectionError(str(error)) from error
        for text, category, file, line in given:
            warnings.warn_explicit(text, category, file, line, registry=self._warned)
        raised(reply)
        return self._memory.read(reply)

    def kill(self) -> None:
        """Ends it at once; it keeps nothing that could be lost."""
        self._process.kill()

    def close(self) -> None:
        """Closes what is shared with it, after its end."""
        self._process.wait()
        self._talk.close()
        os.close(self._descriptor)

    def how_it_ended(self) -> str:
        """The signal or the exit code."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "lost its connection"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _ended(process: ReaderProcess, items: Any, rows: list[int]) -> XgapError:
    how, first = process.how_it_ended(), items.ids[rows[0]]
    what = f"a process that reads {items.modality}s {how}, at {first!r} or one of the {len(rows) - 1} after it"
    return XgapError(
        f"{what}: the memory ran out, or a file breaks its decoder; read in fewer processes, or with num_workers=0 in "
        "threads (what was stored before is used again)"
    )


class _Bounded(io.BytesIO):
    """Memory for `HANDED` bytes."""

    def write(self, content: Any) -> int:
        """Adds some.

        Raises:
            PicklingError: they are too many.
        """
        if self.tell() + memoryview(content).nbytes > HANDED:
            raise pickle.PicklingError("more than a process is to be given")
        return super().write(content)


class _Pickler(pickle.Pickler):
    """Refuses what a process must not be sent: a model's weights, tensors on a device, and a script's own functions."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.nn.Parameter) or (
            isinstance(value, torch.Tensor) and (value.device.type != "cpu" or value.numel() > LARGE)
        ):
            raise pickle.PicklingError("a tensor of a model")
        if getattr(value, "__module__", None) == "__main__" and hasattr(value, "__qualname__"):
            raise pickle.PicklingError("defined in a script or notebook, which a process would have to run again")
        return NotImplemented


def handed(what: Any) -> io.BytesIO | None:
    """What another process is given, pickled; None where that process could not unpack it, or should not have it."""
    content = _Bounded()
    try:
        _Pickler(content, pickle.HIGHEST_PROTOCOL).dump(what)
    except Exception:  # whatever somebody's own objects raise
        return None
    return content


def _task(items: Any, prepare: Callable[[Any], Any], edge: int) -> int | None:
    """The descriptor of a file with what readers need; None where it cannot be handed to a process."""
    content = handed((Decoders.here(), items, prepare, edge))
    if content is None:  # threads read them
        return None
    descriptor = _anonymous("task")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content.getbuffer())
    return descriptor


def _anonymous(name: str) -> int:
    """The descriptor of a file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(f"xgap-{name}")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


__all__ = ["Readers", "check_workers", "cores", "handed", "processes_for"]
