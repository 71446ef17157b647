"""The monitor and the slow log: which requests they keep, and whom they show them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.messages import Monitor, ServedRequest
from jobkeepd import monitor as m
from jobkeepd.monitor import RequestMonitor
from jobkeepd.slow_requests import KEPT, SlowRequests
from tests.support import wait_until_async

START = 1_000


def served(sequence: int, **fields: Any) -> ServedRequest:
    """A request that was answered."""
    given = {
        "connection_id": 1,
        "pid": 10,
        "uid": 0,
        "command": "worker",
        "dialect": "binary",
        "operation": "load",
        "bytes_in": 30,
        "bytes_out": 300,
        "duration_seconds": 0.002,
        "queue_seconds": 0.0,
        "commit_seconds": 0.0,
        "reply_seconds": 0.002,
        "job_id": "job",
        **fields,
    }
    return ServedRequest(sequence=sequence, at=datetime(2026, 3, 1, tzinfo=UTC), **given)


async def watched(*requests: ServedRequest) -> RequestMonitor:
    """A monitor that somebody watches, and what was answered since."""
    monitor = RequestMonitor(START)
    await monitor.page(Monitor(wait_seconds=0), START)
    add(monitor, requests)
    return monitor


def add(monitor: RequestMonitor, requests: Iterable[ServedRequest]) -> None:
    """Have these answered."""
    for request in requests:
        monitor.add(request)


async def sequences(monitor: RequestMonitor, **wanted: Any) -> list[int]:
    """Which requests somebody sees who wants these."""
    page = await monitor.page(Monitor(**{"after": START, "wait_seconds": 0, **wanted}), START)
    return [request.sequence for request in page.requests]


async def test_nothing_is_kept_before_somebody_watches_and_after_nobody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(m, "PATIENCE_SECONDS", 0.01)
    monitor = RequestMonitor(START)
    assert not monitor.is_on

    await monitor.page(Monitor(payloads=5, wait_seconds=0), START)
    assert (monitor.is_on, monitor.payloads) == (True, 5)
    monitor.add(served(START + 1))
    await wait_until_async(lambda: asyncio.sleep(0, not monitor.is_on))

    assert monitor.payloads == 0
    assert await sequences(monitor) == []


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ({}, [1, 2, 3, 4]),
        ({"methods": ["save"]}, [2]),
        ({"methods": ["Save", "org.jobkeep.Delete"]}, [2, 3]),
        ({"job_id": "other"}, [4]),
        ({"client": "11"}, [3]),
        ({"client": "runner"}, [4]),
        ({"errors_only": True}, [3]),
        ({"slower_than_seconds": 0.5}, [2]),
        ({"methods": ["save"], "errors_only": True}, []),
    ],
)
async def test_only_what_passes_every_filter_is_shown(
    wanted: dict[str, Any], seen: list[int]
) -> None:
    monitor = await watched(
        served(START + 1),
        served(START + 2, operation="save", duration_seconds=0.5),
        served(START + 3, operation="delete", pid=11, error="job_not_found"),
        served(START + 4, job_id="other", command="runner"),
    )

    assert await sequences(monitor, **wanted) == [START + number for number in seen]


async def test_operation_that_there_is_none_of_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'lod'.*load"):
        await RequestMonitor(START).page(Monitor(methods=["lod"]), START)


async def test_watcher_goes_on_where_it_stopped() -> None:
    monitor = await watched(served(START + 1), served(START + 2))
    page = await monitor.page(Monitor(after=START, wait_seconds=0), START)
    add(monitor, [served(START + 3)])

    following = page.next
    assert await sequences(monitor, after=following) == [START + 3]


async def test_slow_watcher_is_told_how_many_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "KEPT", 3)
    monitor = await watched(*(served(START + number) for number in range(1, 11)))

    page = await monitor.page(Monitor(after=START + 2, wait_seconds=0), START)

    assert [request.sequence for request in page.requests] == [START + 8, START + 9, START + 10]
    assert page.missed == 5


async def test_number_of_another_life_of_the_daemon_begins_with_what_is_kept() -> None:
    monitor = await watched(served(START + 1))

    page = await monitor.page(Monitor(after=5, wait_seconds=0), START)

    assert ([request.sequence for request in page.requests], page.missed) == ([START + 1], 0)


async def test_page_waits_until_something_passes_its_filters() -> None:
    monitor = await watched(served(START + 1))
    wanted = Monitor(methods=["save"], after=START, wait_seconds=30)
    waiting = asyncio.create_task(monitor.page(wanted, START))

    await asyncio.sleep(0)
    add(monitor, [served(START + 2), served(START + 3, operation="save")])

    page = await waiting
    assert [request.sequence for request in page.requests] == [START + 3]


async def test_page_gathers_what_comes_thick_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = await watched(served(START + 1))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        add(monitor, [served(START + 2)])

    monkeypatch.setattr(asyncio, "sleep", sleep)
    page = await monitor.page(Monitor(after=START, wait_seconds=30), START)

    assert [request.sequence for request in page.requests] == [START + 1, START + 2]
    assert slept == [m.GATHER_SECONDS]


async def test_page_that_waits_is_given_empty_when_the_daemon_ends() -> None:
    monitor = await watched()
    waiting = asyncio.create_task(monitor.page(Monitor(wait_seconds=30), START))
    await asyncio.sleep(0)

    monitor.end_waits()

    assert (await waiting).requests == []


async def test_payloads_are_for_those_who_asked_for_them_and_as_long_as_they_asked() -> None:
    monitor = await watched(served(START + 1, request="abcdef", reply="ghijkl"))

    without = await monitor.page(Monitor(after=START, wait_seconds=0), START)
    short = await monitor.page(Monitor(after=START, wait_seconds=0, payloads=3), START)

    assert (without.requests[0].request, without.requests[0].reply) == (None, None)
    assert (short.requests[0].request, short.requests[0].reply) == ("abc", "ghi")


async def test_payloads_that_are_kept_have_a_limit_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(m, "KEPT_PAYLOAD_CHARACTERS", 10)
    monitor = await watched(*(served(START + number, request="x" * 4) for number in (1, 2, 3)))

    assert await sequences(monitor) == [START + 2, START + 3]


def test_slow_log_keeps_the_slowest_and_gives_the_slowest_first() -> None:
    slow = SlowRequests()
    for number in range(3 * KEPT):
        seconds = (number * 7919 % (3 * KEPT)) / 1000
        if seconds > slow.threshold:
            slow.add(served(number, duration_seconds=seconds))

    kept = [request.duration_seconds for request in slow.slowest(KEPT)]

    assert kept == sorted(kept, reverse=True)
    assert kept[0] == (3 * KEPT - 1) / 1000
    assert kept[-1] == 2 * KEPT / 1000
    assert slow.slowest(2) == slow.slowest(KEPT)[:2]
