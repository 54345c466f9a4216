"""Items opened by threads and by processes: the same, whatever becomes of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import Images, Items
from xgap_analysis.datasets.reading import readers
from xgap_analysis.datasets.reading.opened import opened
from xgap_analysis.datasets.reading.readers import Readers, check_workers, cores, processes_for
from xgap_analysis.datasets.reading.serving import InMemory, Memory
from xgap_analysis.datasets.stored import image_files


def as_is(item: Any) -> Any:
    return item


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read waits for its process to have started."""
    monkeypatch.setattr(readers, "PATIENCE", 120.0)


@pytest.fixture
def files(tmp_path: Path) -> Images:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "plain.png")
    Image.fromarray(noise).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "cut.png").write_bytes((tmp_path / "plain.png").read_bytes()[:300])
    (tmp_path / "page.png").write_text("<html></html>")
    return image_files(tmp_path, {n: n for n in ("plain.png", "turned.jpg", "cut.png", "page.png", "missing.png")})


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Exception):
        return type(one) is type(other) and str(one) == str(other) and vars(one) == vars(other)
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


@pytest.mark.usefixtures("patient")
def test_a_process_gives_what_a_thread_gives_until_it_is_killed(files: Images) -> None:
    rows = list(range(5))
    expected = opened(files, as_is, rows)
    assert [type(one).__name__ for one in expected[2:]] == ["OSError", "OSError", "FileNotFoundError"]
    assert expected[1].size == (20, 30)  # by its EXIF tag
    with Readers(files, np.asarray, 1) as own:
        own.begin(5)
        found = own.submit(rows).result()
        assert own.about == "1 reading processes"
        assert own._processes[0].is_ready()
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))
        assert found[4].errno == expected[4].errno  # by which a passing error is known
        with pytest.raises(IndexError):  # a mistake in an opener is raised, and not taken for a damaged image
            own.submit([99]).result()
        assert same(own.submit([0]).result()[0], expected[0])  # and the process goes on
        os.kill(own._processes[0].pid, signal.SIGKILL)
        message = "a process that reads images was ended by SIGKILL, at 'plain.png' or one of the 1 after it"
        with pytest.raises(XgapError, match=f"{message}.*num_workers=0"):
            own.submit([0, 1]).result()


@pytest.mark.usefixtures("patient")
def test_a_process_has_the_decoders_and_the_modules_of_the_one_that_started_it(
    files: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit(1)")  # in the working directory, where this process looks last
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    expected = opened(files, np.asarray, [2])
    assert isinstance(expected[0], np.ndarray)  # cut.png
    with Readers(files, np.asarray, 1) as own:
        own.begin(1)
        found = own.submit([2]).result()
        assert own._processes[0].is_ready() or sys.version_info < (3, 11)
    assert same(found[0], expected[0])


def test_a_process_that_starts_is_not_interrupted(tmp_path: Path) -> None:
    package = tmp_path / "xgap_analysis" / "datasets" / "reading"
    package.mkdir(parents=True)
    interrupted = "import os, signal; os.kill(os.getpid(), signal.SIGINT); serve = print"
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "serving.py").write_text(interrupted)
    command, own = [sys.executable, "-c", readers._SERVE, "1", "2"], {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert subprocess.run(command, env=own, cwd=tmp_path, capture_output=True, text=True).stdout == "1 2\n"


@pytest.mark.usefixtures("patient")
def test_a_process_that_ends_within_its_reply_is_said_to_have_ended(
    files: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = "import os, sys; from multiprocessing.connection import Connection; to = int(sys.argv[1])"
    part = "talk = Connection(to); talk.send(True); talk.recv(); os.write(to, bytes([0, 0, 1, 0, 7])); os._exit(9)"
    monkeypatch.setattr(readers, "_SERVE", f"{talk}; {part}")
    with Readers(files, np.asarray, 1) as own:
        own.begin(1)
        with pytest.raises(XgapError, match="a process that reads images ended with exit code 9"):
            own.submit([0]).result()


def test_items_in_memory_are_not_copied_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    items = Items(["a"], {"a": bytes(2000)}.__getitem__, "1", "audio")
    assert readers._task(items, as_is, 0) is not None
    monkeypatch.setattr(readers, "HANDED", 1500)
    assert readers._task(items, as_is, 0) is None


def test_functions_of_a_script_and_models_are_read_by_threads(files: Images) -> None:
    weights = torch.nn.Linear(2, 2)
    own = Items(["a"], lambda item: item, "1", "audio")
    for items, prepare in ((own, as_is), (files, lambda x: x), (files, weights.forward), (files, weights.weight.add)):
        with Readers(items, prepare, 2) as some:
            some.begin(1)
            assert "threads" in some.about
    with Readers(own, str.upper, 2) as some:
        some.begin(1)
        assert some.submit([0]).result() == ["A"]


def test_what_a_notebook_defines_is_read_by_threads(files: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_is, "__module__", "__main__")
    monkeypatch.setattr("__main__.as_is", as_is, raising=False)
    assert readers._task(files, as_is, 0) is None
    assert readers._task(files, np.asarray, 0) is not None


def test_until_its_process_has_started_a_thread_reads(files: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_SERVE", "import time; time.sleep(60)")
    with Readers(files, np.asarray, 1) as own:
        own.begin(1)
        assert same(own.submit([0]).result()[0], np.asarray(files[0]))
        assert not own._processes[0].is_ready()


def test_where_the_system_refuses_processes_threads_read(files: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(readers.subprocess, "Popen", refused)
    with Readers(files, np.asarray, 2) as own:
        with pytest.warns(UserWarning, match="0 of 2 processes that read could be started .Resource temporarily"):
            own.begin(1)
        assert own.about == "2 reading threads"
        assert same(own.submit([0]).result()[0], np.asarray(files[0]))


def test_a_process_that_cannot_start_leaves_the_thread_to_read(files: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_SERVE", "raise SystemExit(3)")
    monkeypatch.setattr(readers, "PATIENCE", 60.0)
    with Readers(files, np.asarray, 1) as own:
        own.begin(1)
        assert same(own.submit([0]).result()[0], np.asarray(files[0]))


def test_processes_are_started_for_many_images_and_several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [processes_for(n, 16) for n in (1, 690, 1023, 1024, 10**6)] == [0, 0, 0, 15, 15]
    assert [processes_for(1024, usable) for usable in (1, 2, 3, 4, 8, 64)] == [0, 0, 0, 3, 7, 16]
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(alone))  # as torchrun sets it
    assert cores() == 1
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(XgapError, match="num_workers is a number of processes, or 0 to read in threads, not"):
            check_workers(wrong)  # type: ignore[arg-type]


@pytest.fixture
def memories() -> Iterator[tuple[Memory, Memory]]:
    descriptor = readers._anonymous("test")
    yield Memory(descriptor), Memory(descriptor)
    os.close(descriptor)


def test_tensors_of_any_shape_go_through_memory_and_the_rest_as_it_is(memories: tuple[Memory, Memory]) -> None:
    writer, reader = memories
    for size in (1, 500, 3):  # the memory grows, and is used again
        made = [torch.randn(size, 3), "text", torch.arange(size), torch.randn(2, size).T, torch.zeros(0, 4)]
        made.append(torch.randn(size).bfloat16())
        sent = writer.write(made)
        assert [type(one) for one in sent].count(InMemory) == 5
        got = reader.read(sent)
        assert got[1] == "text"
        assert all(torch.equal(a, b) for a, b in zip(made, got, strict=True) if isinstance(a, torch.Tensor))
