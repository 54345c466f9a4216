"""A study whose features several processes compute has the numbers of one process, through kills and restarts."""

import contextlib
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from tests.experiments.test_study import animals
from xgap_analysis.cli import main
from xgap_analysis.cli.command import _parse
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.experiments.shared_work import shared, table_work
from xgap_analysis.experiments.study import Study
from xgap_analysis.models import MODELS, Model, load_model
from xgap_analysis.store import ShareStored, Store, actors, engine, tasks
from xgap_analysis.store.engines import PATIENCE, Ranks, Ray, ranks_of
from xgap_analysis.views import View, batches, register_view, remote, view
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.sharing import contents_of, gone_ranks

ROOT = Path(__file__).parents[2]
COUNTED = "tests.experiments.counted"


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a model that writes down what it encodes, here and in processes that are started."""
    monkeypatch.setenv("COUNTED_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "log").touch()
    module = importlib.import_module(COUNTED)
    return module if "counted" in MODELS else importlib.reload(module)


def grid(model: Model, **changed: Any) -> Study:
    """A study with inversions along an axis, fusion, class names, and a correction that is fitted."""
    given: dict[str, Any] = {
        "comparisons": ["I-I", "OTI-I", "I+OTI-I", "I-T", "zero-shot"],
        "corrections": ["none", "center"],
        "axes": {"oti.steps": [1, 3]},
        "seeds": (1, 2),
        "progress": False,
    }
    return Study([model], [animals()], **{**given, **changed})


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """A table without what the batches of a process may change in the last digits."""
    return table.round(5)


def as_an_array(study: Study, store: Path, world: int = 2) -> None:
    """The tasks of a Slurm array, one after the other, each in a process that knows nothing of the others."""
    for rank in range(world):
        with pytest.raises(ShareStored) as ended:
            Study(**{**vars(study), "store": Store(store), "engine": Ranks(rank, world)}).run()
        assert ended.value.code == 0


# Ranks


def test_an_array_and_one_process_give_one_table(model: Model, tmp_path: Path) -> None:
    expected = grid(model, store=Store(tmp_path / "alone")).run()
    as_an_array(grid(model), tmp_path / "array")
    reading = Store(tmp_path / "array").reading()  # a row of the table would say what has to be computed
    made = grid(model, store=reading).run()
    assert (expected["note"] == "").all()
    assert_frame_equal(numbers(made), numbers(expected))


def test_ranks_that_wait_give_one_table_each(model: Model, tmp_path: Path) -> None:
    expected = grid(model, store=Store(tmp_path / "alone")).run()
    with pytest.raises(ShareStored):
        grid(model, store=Store(tmp_path / "gang"), engine=Ranks(1, 2)).run()
    made = grid(model, store=Store(tmp_path / "gang"), engine=Ranks(0, 2, waits=True, patience=0.1)).run()
    assert_frame_equal(numbers(made), numbers(expected))


def test_the_gap_of_an_array_is_that_of_one_process(model: Model, tmp_path: Path) -> None:
    for rank in range(2):
        with pytest.raises(ShareStored):
            grid(model, store=Store(tmp_path / "array"), engine=Ranks(rank, 2)).gaps()
    made = grid(model, store=Store(tmp_path / "array").reading()).gaps()
    assert_frame_equal(numbers(made), numbers(grid(model, store=Store(tmp_path / "alone")).gaps()))


def test_a_filter_reads_the_union(model: Model, tmp_path: Path) -> None:
    study = grid(model, comparisons=["I-I", "OTI-I"], only="zero-shot-correct", axes={"oti.steps": [2]})
    expected = Study(**{**vars(study), "store": Store(tmp_path / "alone")}).run()
    as_an_array(study, tmp_path / "array")
    made = Study(**{**vars(study), "store": Store(tmp_path / "array")}).run()
    assert_frame_equal(numbers(made), numbers(expected))


def test_what_is_fitted_to_all_items_never_sees_a_share(model: Model, tmp_path: Path) -> None:
    seen = []

    @register_view("whole", modality="image")
    def whole(model: Model, items: Images, *, store: Store | None = None) -> Features:
        """Images without their mean."""
        own = encode(model, items, store=store, progress=False)
        seen.append(len(own))
        return replace(own, vectors=own.vectors - own.vectors.mean(dim=0))

    study = grid(model, comparisons=["whole-whole"], corrections=["none"], axes={})
    expected = Study(**{**vars(study), "store": Store(tmp_path / "alone")}).run()
    once = list(seen)
    seen.clear()
    as_an_array(study, tmp_path / "array")
    assert seen == []
    made = Study(**{**vars(study), "store": Store(tmp_path / "array").reading()}).run()
    assert seen == once
    assert_frame_equal(numbers(made), numbers(expected))


def test_what_is_fitted_within_a_joined_view_never_sees_a_share(model: Model, tmp_path: Path) -> None:
    """A fusion is by item, and so are its leaves; what stands between them is not."""
    seen = []

    @register_view("less-mean", modality="image")
    def less_mean(model: Model, items: Images, own: View, *, store: Store | None = None) -> Features:
        """A view without its mean."""
        made = own(model, items, store=store, progress=False)
        assert isinstance(made, Features)
        seen.append(len(made))
        return replace(made, vectors=made.vectors - made.vectors.mean(dim=0))

    joined = "fuse(fuse(less-mean(image), image), image)"
    study = grid(model, comparisons=[f"{joined}-image"], corrections=["none"], axes={})
    as_an_array(study, tmp_path)
    assert seen == []
    made = Study(**{**vars(study), "store": Store(tmp_path).reading()}).run()
    assert (made["note"] == "").all()
    with pytest.raises(XgapError, match="may depend on all items"):
        view(joined)(model, animals().images, store=Store(tmp_path), engine=Ranks(0, 2))


def test_fits_read_their_split_item_by_item(model: Model) -> None:
    def work(**changed: Any) -> set[tuple[str, str, bool]]:
        (evaluation,) = grid(model, axes={}, comparisons=["OTI-I"], **changed).evaluations()
        return {(str(one.view), one.part, one.of_fit) for one in table_work(evaluation)}

    native = {("oti", "queries", False), ("image", "queries", False), ("image", "gallery", False)}
    assert work(corrections=["none"]) == native
    assert work(corrections=["isoclip"]) == native  # which reads the model alone
    assert work(corrections=["center"]) == native | {("image", "all", True), ("text", "all", True)}
    learned = work(corrections=["none"], scorers=["x_pool(epochs=1)"])
    assert learned == native | {(name, part, True) for name, part, _ in native}


def test_another_number_of_ranks_goes_on_from_what_is_stored(counting: ModuleType, tmp_path: Path) -> None:
    study = Study(["counted"], ["counted-images"], ["I-I"], progress=False)
    for rank, world in ((0, 2), (1, 3), (0, 3), (2, 3)):
        with pytest.raises(ShareStored):
            Study(**{**vars(study), "store": Store(tmp_path), "engine": Ranks(rank, world)}).run()
    assert counting.counted() == dict.fromkeys(map(str, range(counting.N)), 1)


def test_copies_are_in_one_share_and_equal_tokens_too(model: Model) -> None:
    ids = [str(i) for i in range(30)]
    images = Images(ids, lambda i: None, lambda i: f"digest {int(i) % 10}")  # type: ignore[arg-type, return-value]
    texts = Texts(ids, [("a cat", "A  Cat", "a dog")[i % 3] for i in range(30)])
    for items, kind in ((images, lambda i: int(i) % 10), (texts, lambda i: int(i) % 3 == 2)):
        contents = contents_of(model, items, "skip")
        shares = [[i for i, content in contents.items() if Ranks(rank, 3).owns(content)] for rank in range(3)]
        assert sorted(i for share in shares for i in share) == sorted(ids)
        kinds = [{kind(i) for i in share} for share in shares]
        assert sum(map(len, kinds)) == len(set.union(*kinds))


def test_a_share_without_one_readable_item_is_no_mistake(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def opener(item: str) -> Any:
        if Ranks(1, 2).owns(f"digest {item}"):
            raise OSError("broken")
        return animals().images[int(item)]

    images = Images([str(i) for i in range(8)], opener, lambda i: f"digest {i}")
    labels = {"kind": {i: str(int(i) % 2) for i in images.ids}}
    data = animals(images=images, texts=Texts((), ()), labels=labels, class_names={}, splits={}, image_queries=())
    given: dict[str, Any] = {"on_error": "skip", "progress": False}
    with pytest.raises(ShareStored):
        Study([model], [data], ["I-I"], store=Store(tmp_path), engine=Ranks(1, 2), **given).run()
    with pytest.raises(XgapError, match="broken"):
        Study([model], [data], ["I-I"], store=Store(tmp_path), engine=Ranks(1, 2), progress=False).run()
    capsys.readouterr()


def test_a_full_disk_ends_a_rank(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(XgapError, match="cannot be written"):
        grid(model, store=Store(tmp_path / "file"), engine=Ranks(0, 2)).run()


GANG = """
import sys
import xgap_analysis.views.encode
from xgap_analysis.cli import main
sys.modules["xgap_analysis.views.encode"].SHARD = 5
import tests.experiments.counted
sys.exit(main(["study", "--models", "counted", "--datasets", "counted-images", "--comparisons", "I-I",
               "--engine", "ranks(patience=2)", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_rank_is_killed_and_the_first_one_prints_the_table(counting: ModuleType, tmp_path: Path) -> None:
    """Only what the killed rank had in work is computed twice, and by no second command.

    One after the other: the first rank would wait two seconds only, and this machine may be busy.
    """
    shares = {rank: [i for i in range(counting.N) if _owner(counting, i) == rank] for rank in (0, 1)}
    victim = str(shares[1][7])  # in the second shard of the rank
    own = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "XGAP_HOME": str(tmp_path / "home")}

    def ended(rank: int, **more: str) -> int:
        command = [sys.executable, "-c", GANG, str(tmp_path / f"{rank}.parquet")]
        own_rank = {**own, "RANK": str(rank), **more}
        return subprocess.run(command, env=own_rank, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=300).returncode

    assert ended(1, COUNTED_KILL=victim) == -9
    assert ended(0) == 0
    lost = set(map(str, shares[1][5:10]))
    assert counting.counted() == {str(i): 2 if str(i) in lost else 1 for i in range(counting.N)}
    assert not (tmp_path / "1.parquet").exists()
    made = pd.read_parquet(tmp_path / "0.parquet")
    expected = Study(["counted"], ["counted-images"], ["I-I"], store=Store(tmp_path / "alone"), progress=False).run()
    assert made["value"].round(5).tolist() == expected["value"].round(5).tolist()
    assert Store(tmp_path / "home").verify() == []


def _owner(counting: ModuleType, item: int) -> int:
    images = counting.counted_images().images
    return next(rank for rank in (0, 1) if Ranks(rank, 2).owns(images.digest_of(str(item))))


def test_views_of_ranks_from_python(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, store = animals().images, Store(tmp_path)
    own = view("oti", steps=2)
    with pytest.raises(ShareStored, match="rank 1 of 2: its share"):
        own(model, images, store=store, engine=Ranks(1, 2), progress=False)
    waiting: dict[str, Any] = {"store": store, "engine": Ranks(0, 2, waits=True, patience=0.1), "progress": False}
    expected = own(model, images, store=None, progress=False)
    made = own(model, images, **waiting)
    torch.testing.assert_close(made.vectors, expected.vectors, atol=1e-5, rtol=0)
    native = encode(model, images, **waiting)
    assert list(native.ids) == list(made.ids) == list(images.ids)
    inversion = invert(model, native, steps=2, snapshots=[1], **waiting)
    torch.testing.assert_close(inversion.features.vectors, expected.vectors, atol=1e-5, rtol=0)
    assert len(inversion.snapshots[1]) == len(images)
    unknown = Images(images.ids, images.opener)
    with pytest.raises(XgapError, match="never kept, since nothing says what they are"):
        encode(model, unknown, store=store, engine=Ranks(0, 2))
    with pytest.raises(ShareStored, match="rank 1 of 2: its share"):
        invert(model, native, steps=3, store=store, engine=Ranks(1, 2), progress=False)
    with pytest.raises(XgapError, match="store is None"):
        encode(model, images, store=None, engine=Ranks(0, 2))
    with pytest.raises(XgapError, match="may depend on all items"):
        view(lambda model, items: encode(model, items))(model, images, engine=Ranks(0, 2))
    capsys.readouterr()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The waits for others, which take no time; what stands in it is called at one of them, and counts as one."""
    waits = list[Any]()
    coming = dict[int, Callable[[], object]]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        coming.pop(len(waits), lambda: None)()

    monkeypatch.setattr(tasks.time, "sleep", sleep)
    monkeypatch.setattr(tasks.time, "monotonic", lambda: float(sum(waits)))
    return [waits, coming]


def test_a_rank_that_is_gone_is_waited_for_once(
    model: Model, tmp_path: Path, clock: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three ranks, one is dead and one is slow: each later view waits for the slow one alone."""
    images, (waits, coming) = animals().images, clock
    how: dict[str, Any] = {"store": Store(tmp_path), "progress": False}
    first: dict[str, Any] = {**how, "engine": Ranks(0, 3, waits=True, patience=10)}

    def stored(rank: int, steps: int) -> None:
        own = view("oti", steps=steps) if steps else view("image")
        with pytest.raises(ShareStored):
            own(model, images, **how, engine=Ranks(rank, 3))

    stored(1, 0)
    native = encode(model, images, **first)
    assert len(waits) == 10
    assert "no row of rank 2 has come for 10 s" in capsys.readouterr().err
    for steps, slow in ((2, 3), (3, 9)):
        waits.clear()
        coming[slow] = lambda steps=steps: stored(1, steps)
        made = view("oti", steps=steps)(model, images, **first)
        assert len(waits) == slow
        torch.testing.assert_close(
            made.vectors, invert(model, native, steps=steps, store=None, progress=False).features.vectors
        )
    stored(2, 4)  # it comes back
    stored(1, 4)
    waits.clear()
    (entry,) = (e for e in Store(tmp_path).entries() if e.provenance.get("steps") == 4)
    before = entry.n_items
    assert len(view("oti", steps=4)(model, images, **first)) == len(images)
    assert not waits
    assert before == sum(not Ranks(0, 3).owns(content) for content in contents_of(model, images).values())
    assert "no row of" not in capsys.readouterr().err


def test_a_rank_at_work_on_what_comes_next_is_not_gone(
    model: Model, tmp_path: Path, clock: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three ranks, one is dead, and one has encoded its images and inverts them for a long time."""
    images, (waits, coming) = animals().images, clock
    how: dict[str, Any] = {"store": Store(tmp_path), "progress": False}

    def stored(steps: int) -> None:
        with pytest.raises(ShareStored):
            (view("oti", steps=steps) if steps else view("image"))(model, images, **how, engine=Ranks(1, 3))

    stored(0)
    coming[15] = lambda: stored(2)
    first = Ranks(0, 3, waits=True, patience=10)
    made = view("oti", steps=2)(model, images, **how, engine=first)
    said = capsys.readouterr().err
    assert "no row of rank 2 has come" in said
    assert "1, 2" not in said
    assert gone_ranks(first, how["store"]) == {2}
    assert len(waits) == 25  # ten for images of rank 2, fifteen for what rank 1 inverts and ten seconds after it
    alone = view("oti", steps=2)(model, images, store=None, progress=False)
    torch.testing.assert_close(made.vectors, alone.vectors, atol=1e-5, rtol=0)


def test_a_view_in_two_steps_waits_once_where_nobody_is_left(
    model: Model, tmp_path: Path, clock: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    images, how = animals().images, {"engine": Ranks(0, 2, waits=True, patience=10), "progress": False}
    assert len(view("oti", steps=2)(model, images, store=Store(tmp_path), **how)) == len(images)
    assert len(clock[0]) == 10
    assert capsys.readouterr().err.count("do not wait for rank 1") == 1


def test_a_study_waits_once_for_a_rank_that_is_gone(
    model: Model, tmp_path: Path, clock: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = grid(model, store=Store(tmp_path / "alone")).run()
    made = grid(model, store=Store(tmp_path / "gang"), engine=Ranks(0, 2, waits=True, patience=10)).run()
    assert_frame_equal(numbers(made), numbers(expected))
    assert len(clock[0]) == 10
    assert capsys.readouterr().err.count("do not wait for rank 1") == 1


# The command line


def test_the_tasks_of_an_array_say_what_is_stored_and_what_is_owed(
    counting: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--model", "counted", "--dataset", "counted-images", "--engine", "ranks"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    mine = [sum(_owner(counting, i) == rank for i in range(counting.N)) for rank in (0, 1)]
    for task in (0, 1):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        assert main(["encode", *given]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        owed = f"of 40 rows, {mine[0]} are in the store, and {mine[1]} are owed by other ranks"
        assert (owed if task == 0 else "rank 1 of 2: all 40 rows are in the store") in said.err
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert main(["encode", *given[:4]]) == 0
    assert "image features [40, 6]" in capsys.readouterr().out
    assert counting.counted() == dict.fromkeys(map(str, range(counting.N)), 1)
    assert main(["encode", *given]) == 2
    assert "needs a launcher" in capsys.readouterr().err


def test_an_inversion_belongs_to_the_rank_of_its_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], xgap_home: Path
) -> None:
    given = ["invert", "--limit", "2", "--steps", "2", "--engine", "ranks(patience=0.5)"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(given) == 0
    assert "rank 1 of 2: its share" in capsys.readouterr().err
    first = {entry.provenance["view"]: entry.n_items for entry in Store(xgap_home).entries()}
    assert 0 < first["oti"] == first["image"]
    monkeypatch.setenv("RANK", "0")  # which waits for what is there already
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "OTI features" in said
    assert main(["invert", "--limit", "2", "--steps", "2"]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.filterwarnings("default::UserWarning")
def test_failures_are_tried_again_by_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], xgap_home: Path
) -> None:
    (tmp_path / "data" / "red").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "data" / "red" / f"{i}.png").write_bytes(b"no image" + bytes([i]))
    animals().images[0].save(tmp_path / "data" / "red" / "3.png")
    given = ["encode", "--dataset", str(tmp_path / "data"), "--split", "all", "--on-error", "skip"]
    for extra in ([], ["--retry-failed"]):
        assert main([*given, *extra]) == 0
        assert "image features [1, 512]" in capsys.readouterr().out
    (entry,) = Store(xgap_home).entries()
    assert (entry.n_items, entry.n_failed) == (1, 3)


def test_prune_says_what_it_did(capsys: pytest.CaptureFixture[str], xgap_home: Path) -> None:
    assert main(["encode", "--limit", "1", "--space", "text"]) == 0
    capsys.readouterr()
    assert main(["store", "prune", "--max-size", "1GB"]) == 0
    assert "0 removed" in capsys.readouterr().err
    assert main(["store", "prune", "--max-size", "0MB", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "last used" in said.out
    assert "1 would be removed" in said.err
    assert len(Store(xgap_home).entries()) == 1
    assert main(["store", "prune", "--max-size", "0MB", "--json"]) == 0
    assert '"n_bytes"' in capsys.readouterr().out
    assert Store(xgap_home).entries() == []
    for wrong in (["prune", "--max-size", "much"], ["list", "--dry-run"], ["prune", "3f9a"]):
        assert main(["store", *wrong]) == 2


def test_the_page_on_clusters_says_what_the_code_does() -> None:
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    engines = set()
    for line in shell.splitlines():
        words = shlex.split(line, comments=True)
        words = shlex.split(words[words.index("--wrap") + 1]) if "--wrap" in words else words
        if "xgap" in words:
            parsed = _parse(words[words.index("xgap") + 1 :])
            engines.add((words[0], getattr(parsed, "engine", "local")))
    rays = {("xgap", "ray"), ("xgap", "ray(workers=8, gpus=0.5)")}
    assert engines == {("xgap", "local"), ("torchrun", "ranks"), ("srun", "ranks"), ("xgap", "ranks"), *rays}
    assert {str(engine(name)) for _, name in rays} == {"ray", "ray(workers=8, gpus=0.5)"}
    modules = [sys.modules[f"xgap_analysis.views.{name}"] for name in ("encode", "inversion.invert")]
    encoded, inverted = (module.SHARD for module in modules)
    assert f"at most {encoded:,} encoded or {inverted} inverted items" in page
    assert PATIENCE == 600
    assert "ten minutes" in page
    assert actors.LIVES == 3
    assert "up to three times" in page
    product = {"RANK": "3", "WORLD_SIZE": "8", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert str(ranks_of(product)) == "rank 19 of 32"
    assert "process 3 of task 2 is rank 19 of 32" in page


# Ray


def test_what_no_fresh_process_could_find_is_refused(counting: ModuleType, model: Model, tmp_path: Path) -> None:
    @register_view("by-hand", modality="image", by_item=True)
    def by_hand(model: Model, items: Images, *, store: Store | None = None) -> Features:
        """Images as they are."""
        return encode(model, items, store=store, progress=False)

    by_hand.__module__ = "__main__"  # as in a notebook
    names: dict[str, Any] = {"models": ["counted"], "datasets": ["counted-images"], "comparisons": ["I-I"]}
    for changed, message in (
        ({"models": [model]}, "load each model by its name, and 'random-0' is an object; use engine local or ranks"),
        ({"datasets": [animals()]}, "load each dataset by its name, and 'animals' is an object"),
    ):
        with pytest.raises(XgapError, match=message):
            Study(**{**names, **changed}, store=Store(tmp_path), engine="ray(workers=2)").run()
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        textwrap.dedent("""
        import xgap_analysis as xg
        @xg.register_model("from-a-file")
        def made():
            return xg.as_model(lambda items: [[1.0, 2.0]] * len(items), ["image"])
        """)
    )
    from xgap_analysis.core.plugins import load_plugin
    from xgap_analysis.experiments.shared_work import Work, _options

    load_plugin(plugin)
    images, given = animals().images, {"store": Store(tmp_path), "engine": "ray(workers=2)"}
    own = load_model("from-a-file")
    for call, message in (
        (lambda: encode(model, images, **given), "load a model by its name: unknown model 'random-0'"),
        (lambda: encode(own, images, **given), "model 'from-a-file' was registered by code"),
        (lambda: encode(load_model("counted"), [animals().images[0]], **given), "cannot be handed to one .*in memory"),
        (lambda: encode(model, images, **{**given, "store": None}), "store is None; use engine local"),
        (lambda: view(by_hand)(model, images, **given), "may depend on all items"),
        (lambda: view("by-hand")(model, images, **given), "view 'by-hand' was registered by code"),
    ):
        with pytest.raises(XgapError, match=message):
            call()
    study = Study(**names, seeds=np.array([1, 2]))
    sent = _options(study, "counted", "counted-images", Work(view("image"), "all"), Store(tmp_path))
    assert json.loads(json.dumps(sent))["study"]["seeds"] == [1, 2]
    with pytest.raises(XgapError, match=r"model 'from-a-file' was registered by code .* file of --plugin"):
        Study(**{**names, "models": ["from-a-file"]}, engine=Ray(2)).run()
    for own, message in ((view("by-hand"), "view 'by-hand' was registered"), (view(by_hand), "has none; register it")):
        with pytest.raises(XgapError, match=message):
            _options(study, "counted", "counted-images", Work(own, "all"), Store(tmp_path))


def test_the_bar_of_workers_names_what_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = []

    class Idle:
        def run(self, task: Any, ids: Any, description: str, progress: bool) -> list[str]:
            said.append(description)
            return []

    monkeypatch.setattr(actors, "started", lambda by, store: contextlib.nullcontext(Idle()))
    images, tiny = load_dataset("emoji").split("val").limit(1).images, load_model("tiny")
    how: dict[str, Any] = {"store": Store(tmp_path), "engine": Ray(1), "progress": False}
    native = encode(tiny, images, **how)
    view("oti", steps=1)(tiny, images, **how)
    invert(tiny, native, steps=1, **how)
    assert said == ["encode with tiny", "oti(steps=1) with tiny", "invert with tiny"]


def test_workers_read_images_in_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a view too, which says nothing of processes that read: a worker is a process already."""
    read: list[int | None] = []
    own = batches.Readers
    monkeypatch.setattr(batches, "Readers", lambda items, way, n, *more: (read.append(n), own(items, way, n, *more))[1])

    class Here:
        def run(self, task: actors.Task, ids: Sequence[str], description: str, progress: bool) -> list[str]:
            remote.fill(json.loads(json.dumps(task.options)), task.given(ids))
            return []

    monkeypatch.setattr(actors, "started", lambda by, store: contextlib.nullcontext(Here()))
    images, tiny = load_dataset("emoji").split("val").limit(1).images, load_model("tiny")
    for n, call in enumerate((view("image"), encode)):
        call(tiny, images, store=Store(tmp_path / str(n)), engine=Ray(1), progress=False)  # type: ignore[operator]
        assert read
        assert read[0] == 0
        read.clear()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray cluster on this machine with two workers, for all tests of this module; the log of what they encode.

    Only where Ray is not installed they are skipped. What is installed and does not start is a failure.
    """
    ray = pytest.importorskip("ray")
    log = tmp_path_factory.mktemp("counted") / "log"
    log.touch()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"COUNTED_LOG": str(log), "COUNTED_KILL": "17", "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        patch.setattr(actors.os, "cpu_count", lambda: 2)
        patch.setattr(actors, "STARTS", 6)  # of which each takes half a minute on cores that are too busy
        try:
            actors._connect(None, Ray(2))
        except XgapError:
            time.sleep(20)
            actors._connect(None, Ray(2))
        patch.delenv("COUNTED_KILL")  # workers have it, and this process is not to be ended
        yield log
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_worker_loses_only_the_list_in_work(
    cluster: Path, counting: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(actors, "LEAST", 5)
    study = Study(["counted"], ["counted-images"], ["I-I"], store=Store(tmp_path / "alone"), progress=False)
    expected = study.run()
    monkeypatch.setenv("COUNTED_LOG", str(cluster))
    made = Study(**{**vars(study), "store": Store(tmp_path / "ray"), "engine": "ray(workers=2)"}).run()
    assert Path(f"{cluster}.killed").exists()
    assert counting.counted() == {str(i): 2 if 15 <= i < 20 else 1 for i in range(counting.N)}
    assert_frame_equal(numbers(made), numbers(expected))
    assert Store(tmp_path / "ray").verify() == []
    assert not list((tmp_path / "ray").glob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_workers_and_one_process_give_one_table(cluster: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(actors, "LEAST", 6)
    given: dict[str, Any] = {"limit": 2, "axes": {"oti.steps": [1, 2]}, "corrections": ["none", "center"]}
    study = Study(["tiny"], ["emoji"], ["OTI-I"], fit_split="val", progress=False, **given)
    workers = Study(**{**vars(study), "store": Store(tmp_path / "ray"), "engine": "ray(workers=2)"})
    there = shared(workers, table_work)
    assert there.engine == "local"
    made = Study(**{**vars(there), "store": Store(tmp_path / "ray").reading()}).run()
    assert_frame_equal(numbers(made), numbers(Study(**{**vars(study), "store": Store(tmp_path / "alone")}).run()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_python_gives_workers_has_the_numbers_of_one_process(
    cluster: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Images of a dataset, captions in a list, and features; workers that others have not left room for say so."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    monkeypatch.setattr(actors, "LOOK", 0.2)
    monkeypatch.setattr(actors, "LATE", 0.4)
    tiny, images = load_model("tiny"), load_dataset("emoji").split("val").limit(2).images
    alone: dict[str, Any] = {"store": Store(tmp_path / "alone"), "progress": False}
    there: dict[str, Any] = {"store": Store(tmp_path / "ray"), "engine": "ray(workers=2)"}
    others = placement_group([{"CPU": 1.0}, {"CPU": 1.0}])
    assert others.wait(300)
    while ray.available_resources().get("CPU"):
        time.sleep(0.1)
    own_say = actors.Workers._say

    def say(workers: actors.Workers, progress: bool) -> None:
        own_say(workers, progress)
        if workers._said:  # others go when it was said, however long that took
            remove_placement_group(others)

    monkeypatch.setattr(actors.Workers, "_say", say)
    native = encode(tiny, images, **there)
    waited = "2 of 2 workers wait for resources: each needs 1 CPU, and of the cluster 0 of 2 CPUs are free"
    err = capfd.readouterr().err
    assert waited in err
    assert re.sub(r"ray: 2 of 2 workers .*\n|encode with tiny.*", "", err).strip() == ""  # and nothing of Ray's own
    there["progress"] = False
    captions = [f"a {colour} cat" for colour in ("red", "blue", "green")]
    made = (
        native,
        encode(tiny, captions, **there),
        invert(tiny, native, steps=2, **there).features,
        view("oti", steps=3)(tiny, images, **there),
    )
    reading: dict[str, Any] = {"store": Store(tmp_path / "ray").reading(), "progress": False}  # all of it by workers
    own = encode(tiny, images, **alone)
    for how in (alone, reading):
        expected = (
            own,
            encode(tiny, captions, **how),
            invert(tiny, own if how is alone else native, steps=2, **how).features,
            view("oti", steps=3)(tiny, images, **how),
        )
        for one, other in zip(made, expected, strict=True):
            assert one.ids == other.ids
            torch.testing.assert_close(one.vectors, other.vectors, atol=1e-5, rtol=0)
    other = replace(tiny, towers=model.towers, weights_digest="", activation=tiny.activation)
    with pytest.raises(XgapError, match="the model that 'tiny' names has other weights"):
        encode(other, captions, **there)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_workers_say_why_they_leave_items_out(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xgap_analysis.store.actors import Task, started

    monkeypatch.chdir(tmp_path)  # workers were started in another folder
    with started(Ray(2), Store("here")) as workers:
        os.utime(workers.mark, (0, 0))
        assert workers.run(Task(f"{COUNTED}_not:fill", {}), ["a"], "") == [f"No module named '{COUNTED}_not'"]
        assert workers.mark.stat().st_mtime > 0  # or `prune` would take it for a file that a dead process left
        workers.mark.unlink()
        (reason,) = workers.run(Task(f"{COUNTED}:fill", {}), ["a"], "")
        assert "not the same folder" in reason
    with pytest.raises(XgapError, match="2 cores and 0 GPUs: too few for 3 workers"), started(Ray(3), Store(tmp_path)):
        pass
