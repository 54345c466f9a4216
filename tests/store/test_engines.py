"""Which rank a process is, by what its launcher says; and who owns an item."""

from collections import Counter
from typing import Any

import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store.engines import Local, Ranks, Ray, engine, ranks_of

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}
BATCH = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}  # of a batch script with one task


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (TORCHRUN, Ranks(1, 4, waits=True, gpu=1)),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Ranks(0, 2, waits=True)),
        (SRUN, Ranks(2, 3, waits=True, gpu=0)),
        ({**TORCHRUN, **SRUN}, Ranks(1, 4, waits=True, gpu=1)),  # torchrun inside a task of srun
        (ARRAY, Ranks(2, 4)),
        ({**ARRAY, **BATCH}, Ranks(2, 4)),
        ({**ARRAY, **SRUN}, Ranks(2 * 3 + 2, 4 * 3, gpu=0)),  # processes that start together in each task
        ({**ARRAY, **TORCHRUN}, Ranks(2 * 4 + 1, 4 * 4, gpu=1)),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_STEP": "2"}, Ranks(2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "3"}, Ranks(0, 1)),
    ],
)
def test_the_launcher_numbers_the_ranks(environment: dict[str, str], expected: Ranks) -> None:
    assert ranks_of(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "needs a launcher .*torchrun .*srun .*Slurm array"),
        ({"RANK": "1"}, "a number in the variable WORLD_SIZE, not ''"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "variable RANK, not 'one'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "from 0 to 1, and this process has rank 2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "the number of ranks is a whole number of 1 or more, not 0"),
        ({**BATCH, "SLURM_NTASKS": "4"}, "4 tasks .* write srun before the command"),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}, "--array=0-2"),
        ({"SLURM_ARRAY_TASK_ID": "2"}, "SLURM_ARRAY_TASK_COUNT"),
    ],
)
def test_what_does_not_number_them_is_refused_in_one_sentence(environment: dict[str, str], message: str) -> None:
    with pytest.raises(XgapError, match=message) as raised:
        ranks_of(environment)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("world", [1, 2, 5])
def test_each_item_has_one_owner_and_shares_are_of_about_one_size(world: int) -> None:
    digests = [f"{i:064x}" for i in range(1000)]
    owners = [[rank for rank in range(world) if Ranks(rank, world).owns(digest)] for digest in digests]
    assert all(len(owner) == 1 for owner in owners)
    sizes = Counter(owner[0] for owner in owners)
    assert all(abs(size - 1000 / world) < 4 * (1000 / world) ** 0.5 for size in sizes.values())  # four deviations


def test_engines_are_named_with_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert engine("local") == Local()
    assert engine("ranks(patience=60)") == Ranks(1, 4, waits=True, patience=60, gpu=1)
    assert engine("ray(workers=4, gpus=0.5, address=auto)") == Ray(4, 0.5, "auto")
    assert engine(Ray(2)) == Ray(2)
    assert str(engine("ray(workers=4, gpus=0.5)")) == "ray(workers=4, gpus=0.5)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slurm", "unknown engine 'slurm'"),
        ("ray(worker=2)", "unknown option of ray 'worker'; nearest names: workers"),
        ("ray(workers=many)", "workers of ray is a whole number"),
        ("ray(workers=0)", "workers of engine ray is a whole number of 1 or more, not 0"),
        ("ray(gpus=-1.0)", "a share of a GPU"),
        ("ray(2)", "options by name"),
    ],
)
def test_a_mistake_in_an_engine_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        engine(name)


def test_what_is_no_engine_is_one_sentence() -> None:
    for wrong in (None, 3, Ranks):
        with pytest.raises(XgapError, match="an engine is one of local, ranks, ray"):
            engine(wrong)  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(XgapError, match=r"a rank is a whole number of 0 or more, not 0\.5"):
        Ranks(0.5, 2)  # type: ignore[arg-type]  # a user's mistake


def test_no_patience_is_refused() -> None:
    wrong: Any
    for wrong in (0, float("nan"), "60", None, True):
        with pytest.raises(XgapError, match=f"above 0, not {wrong!r}"):
            Ranks(0, 2, patience=wrong)


def test_what_is_no_share_of_a_gpu_is_refused() -> None:
    wrong: Any
    for wrong in (-0.5, float("nan"), float("inf"), "all", True):
        with pytest.raises(XgapError, match=f"a share of a GPU of 0 or more, not {wrong!r}"):
            Ray(gpus=wrong)
    with pytest.raises(XgapError, match=r"0 to 1, or a whole number of GPUs, not 1\.5"):
        Ray(gpus=1.5)
    assert [Ray(gpus=share).gpus for share in (0, 0.5, 2.0)] == [0, 0.5, 2]


@pytest.mark.parametrize(
    ("given", "gpu", "count", "expected"),
    [(None, 3, 2, "cuda:1"), (None, 1, 8, "cuda:1"), (None, 1, 1, None), (None, None, 8, None), ("cpu", 1, 8, "cpu")],
)
def test_a_rank_takes_its_own_gpu_where_it_sees_several(
    monkeypatch: pytest.MonkeyPatch, given: str | None, gpu: int | None, count: int, expected: str | None
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert Ranks(0, 2, gpu=gpu).device(given) == expected
