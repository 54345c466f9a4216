"""The process of a reader: it opens items for the process that started it, and hands tensors over in shared memory.

It is a fresh interpreter, neither forked from the first one (whose threads and CUDA context a fork would break) nor
started through `multiprocessing` (which runs the user's script again). It ends when its connection does.
"""

import mmap
import os
import pickle
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image, ImageFile

ALIGNED = 64  # bytes at whose multiples tensors begin


@dataclass(frozen=True)
class Decoders:
    """What decides, for a whole process, which images Pillow reads.

    Args:
        most_pixels: `Image.MAX_IMAGE_PIXELS`.
        cut: `ImageFile.LOAD_TRUNCATED_IMAGES`.
    """

    most_pixels: int | None
    cut: bool

    @classmethod
    def here(cls) -> "Decoders":
        """That of this process."""
        return cls(Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)

    def set(self) -> None:
        """Makes it that of this process."""
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self.most_pixels, self.cut


class InMemory:
    """Where a tensor lies in the memory that two processes share.

    Args:
        start: bytes before it.
        shape, dtype: of the tensor.
    """

    __slots__ = ("dtype", "shape", "start")

    def __init__(self, start: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.start, self.shape, self.dtype = start, shape, dtype


class Memory:
    """Memory of two processes: a file without a name, which the one that writes makes longer when it has to.

    Args:
        descriptor: of the file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def at(self, size: int) -> mmap.mmap:
        """The first `size` bytes, and perhaps more."""
        if self._map is None or len(self._map) < size:
            if os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, size)
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)  # tensors may hold the old one
        return self._map

    def write(self, made: list[Any]) -> list[Any]:
        """The same list with an `InMemory` for each tensor."""
        import torch

        tensors = {place: one.detach().contiguous() for place, one in enumerate(made) if isinstance(one, torch.Tensor)}
        sent, end = list(made), 0
        for place, one in tensors.items():
            sent[place] = InMemory(end, tuple(one.shape), one.dtype)
            end += -(-one.numel() * one.element_size() // ALIGNED) * ALIGNED
        if end:
            memory = self.at(end)
        for place, one in tensors.items():
            if one.numel():
                there = torch.frombuffer(memory, dtype=one.dtype, count=one.numel(), offset=sent[place].start)
                there.copy_(one.reshape(-1))
        return sent

    def read(self, sent: list[Any]) -> list[Any]:
        """The list that `write` was given; tensors are copies."""
        import torch

        def one(given: Any) -> Any:
            if not isinstance(given, InMemory):
                return given
            count = torch.Size(given.shape).numel()
            if not count:
                return torch.empty(given.shape, dtype=given.dtype)
            memory = self.at(given.start + count * given.dtype.itemsize)
            there = torch.frombuffer(memory, dtype=given.dtype, count=count, offset=given.start)
            return there.reshape(given.shape).clone()

        return [one(given) for given in sent]


def serve(connection: int, memory: int, task: int) -> None:
    """Opens items until the connection ends.

    The first message is True, or the reason why what is to be done cannot be read here. Then rows come in, and for each
    list of rows goes out what `opened` gives, or the error that it raised, and the warnings that were given.

    Args:
        connection, memory, task: descriptors: of a socket, of a `Memory`, and of a file with items, `prepare`
            and the edge (see `opened`), after the `Decoders`.
    """
    with Connection(connection) as talk:
        try:
            from xgap_analysis.datasets.reading.opened import opened

            with mmap.mmap(task, 0, access=mmap.ACCESS_READ) as whole:
                decoders, items, prepare, edge = pickle.loads(whole)
            decoders.set()
            import torch

            torch.set_num_threads(1)
        except Exception as error:
            talk.send(f"{type(error).__name__}: {error}")
            return
        shared = Memory(memory)
        try:
            talk.send(True)
            while True:
                rows = talk.recv()
                with warnings.catch_warnings(record=True) as given:
                    warnings.simplefilter("always")
                    try:
                        reply: Any = shared.write([_portable(one) for one in opened(items, prepare, rows, edge)])
                    except Exception as error:
                        reply = _Raised(error)
                talk.send((reply, [(str(w.message), w.category, w.filename, w.lineno) for w in given]))
        except (EOFError, ConnectionError):
            return


class _Raised:
    """An error that is no damaged input, and where it was raised."""

    def __init__(self, error: Exception) -> None:
        self.error, self.where = _portable(error), "".join(traceback.format_exception(error))


def raised(reply: Any) -> None:
    """Raises the error that a reply consists of, if it does."""
    if isinstance(reply, _Raised):
        raise reply.error from RuntimeError(f"in a process that reads items:\n{reply.where}")


def _portable(one: Any) -> Any:
    """An error as it is if it arrives so, or else one of its text; anything else as it is."""
    if not isinstance(one, Exception):
        return one
    try:
        if str(pickle.loads(pickle.dumps(one))) == str(one):
            return one
    except Exception:  # an error of somebody's own may need other arguments than it keeps
        pass
    return OSError(str(one)) if isinstance(one, OSError) else ValueError(str(one))
