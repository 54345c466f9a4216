"""Long work: on a thread, with progress on the kernel's loop, and an end at the press of a button."""

import asyncio
import threading
import time
from typing import Any

from xgap_analysis.core.progress import Cancelled, report
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.jobs import GRACE, Jobs


def steps(n: int, pause: float, seen: list[int]) -> Any:
    def work() -> str:
        for done in range(n):
            report("counting", done, n)
            seen.append(done)
            time.sleep(pause)
        return "all"

    return work


async def ended(jobs: Jobs) -> None:
    for _ in range(1000):
        if not jobs.running:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the job did not end")


def test_slow_work_shows_progress_and_its_result_arrives_on_the_loops_thread() -> None:
    jobs, results, bars = Jobs(), [], []
    jobs._bar.observe(lambda change: bars.append((change["new"], threading.current_thread())), "value")

    async def cell() -> None:
        here = threading.current_thread()
        jobs.run(
            steps(10, GRACE / 4, []), lambda made: results.append((made, threading.current_thread())), results.append
        )
        assert jobs.running
        assert jobs.layout.visibility == "visible"
        await ended(jobs)
        assert results == [("all", here)]
        assert {thread for _, thread in bars} == {here}

    asyncio.run(cell())
    assert max(value for value, _ in bars) >= 5
    assert jobs.layout.visibility == "hidden"


def test_quick_work_is_done_when_the_call_returns() -> None:
    jobs, results = Jobs(), []

    async def cell() -> None:
        jobs.run(lambda: "quick", results.append, results.append)
        assert results == ["quick"]
        await asyncio.sleep(0.05)

    asyncio.run(cell())
    assert results == ["quick"]


def test_cancel_ends_the_work_at_its_next_report() -> None:
    jobs, seen, results = Jobs(), list[int](), []

    async def cell() -> None:
        jobs.run(steps(1000, 0.01, seen), results.append, results.append)
        jobs._cancel.click()
        await ended(jobs)

    asyncio.run(cell())
    assert len(seen) < 200
    assert [type(result) for result in results] == [Cancelled]


def test_a_new_job_takes_the_place_of_the_old_one() -> None:
    jobs, seen, results = Jobs(), list[int](), []

    async def cell() -> None:
        jobs.run(steps(1000, 0.01, seen), results.append, results.append)
        jobs.run(lambda: "new", results.append, results.append)
        await ended(jobs)
        await asyncio.sleep(0.1)

    asyncio.run(cell())
    assert results == ["new"]
    assert len(seen) < 200


def test_a_debounced_call_gets_the_last_event() -> None:
    got: list[int] = []

    async def drag() -> None:
        call = Debounced(got.append, 0.05)
        for value in range(50):
            call(value)
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)

    asyncio.run(drag())
    assert got == [49]
    Debounced(got.append)(7)  # without a loop: at once
    assert got == [49, 7]
