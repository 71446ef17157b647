"""Events: what is kept, who is woken, and what is said of what is gone."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import msgspec
import pytest

from jobkeep import Client
from jobkeep_protocol.messages import Event, ListClients, RecordExecution, SaveSheet, Watch
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus, utc_now
from jobkeepd import events as events_module
from jobkeepd.events import Events
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.store.transaction import MAX_NOTED_CHARACTERS
from jobkeepd.store.writes import MAX_SHEETS_NOTED
from tests.daemon.workers import sleeper
from tests.daemon_process import DaemonProcess
from tests.support import scaled, wait_until
from tests.wire import Wire

FAR = 2**52
"""A number after the microseconds of today."""

STATUSES = (SheetStatus.IN_PROGRESS, SheetStatus.FAILED, SheetStatus.COMPLETED)


def events_with(*job_ids: str, **limits: Any) -> Events:
    """Events about these jobs, with numbers from FAR + 1 on."""
    events = Events(FAR, msgspec.structs.replace(DEFAULT_LIMITS, **limits))
    publish(events, *job_ids)
    return events


def publish(events: Events, *job_ids: str) -> None:
    """These jobs were deleted, in one commit."""
    events.publish([Event(0, utc_now(), "deleted", job_id) for job_id in job_ids])


async def seen(events: Events, **wanted: Any) -> list[Event]:
    """What somebody sees at once."""
    return (await events.page(Watch(wait_seconds=0, **wanted))).events


# -- what is kept -------------------------------------------------------------------------------


async def test_numbers_are_larger_than_all_before_and_grow_by_one() -> None:
    events = await seen(events_with("a", "b", "c"), after=0)

    assert [event.sequence for event in events] == [FAR + 1, FAR + 2, FAR + 3]
    now = time.time_ns() // 1_000
    small = Events(5, DEFAULT_LIMITS)
    publish(small, "a")
    assert (await seen(small, after=0))[0].sequence >= now - 60_000_000


async def test_page_advances_also_over_what_is_of_no_interest() -> None:
    events = events_with("a", "b", "a", "b")

    page = await events.page(Watch("b", after=FAR + 2, wait_seconds=0))

    assert [event.sequence for event in page.events] == [FAR + 4]
    assert page.next == FAR + 4
    assert (await events.page(Watch("c", after=FAR + 1, wait_seconds=0))).next == FAR + 4


async def test_page_is_as_long_as_is_allowed_and_the_next_goes_on_there() -> None:
    events = events_with("a", "b", "c", max_page_rows=2)

    first = await events.page(Watch(after=0, wait_seconds=0))
    second = await events.page(Watch(after=first.next, wait_seconds=0))

    assert [event.job_id for event in (*first.events, *second.events)] == ["a", "b", "c"]
    assert first.next == FAR + 2


async def test_only_the_newest_are_kept_and_what_is_gone_is_told_with_its_number() -> None:
    events = events_with("a", "b", "c", "d", max_kept_events=2)

    missed, third, fourth = await seen(events, after=FAR + 1)

    assert (missed.kind, missed.sequence) == ("missed", FAR + 2)
    assert missed.message is not None
    assert missed.message.startswith(f"events {FAR + 2} to {FAR + 2} are not kept any more")
    assert [third.job_id, fourth.job_id] == ["c", "d"]
    assert [one.kind for one in await seen(events, after=FAR + 2)] == ["deleted", "deleted"]
    assert [one.kind for one in await seen(events, after=0)] == ["deleted", "deleted"]


@pytest.mark.parametrize("after", [3, FAR - 1, FAR + 9])
async def test_number_of_another_life_is_told_as_such(after: int) -> None:
    missed, event = await seen(events_with("a"), after=after)

    assert (missed.kind, event.job_id) == ("missed", "a")
    assert "the daemon was started in between" in (missed.message or "")


async def test_limit_that_is_lowered_counts_from_the_next_event_on() -> None:
    events = events_with("a", "b", "c")
    events.limits = msgspec.structs.replace(DEFAULT_LIMITS, max_kept_events=1)

    publish(events, "d")

    assert [event.job_id for event in await seen(events, after=0)] == ["d"]


async def test_nothing_has_to_be_kept() -> None:
    events = events_with(max_kept_events=0)
    (watcher,) = await waiting(events, Watch())

    publish(events, "a")

    (missed,) = (await watcher).events
    assert (missed.kind, missed.sequence) == ("missed", FAR + 1)


# -- waiting ------------------------------------------------------------------------------------


async def waiting(events: Events, *requests: Watch) -> list[asyncio.Task[Any]]:
    """Watchers that wait."""
    tasks = [asyncio.create_task(events.page(request)) for request in requests]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_those_who_wait_are_woken_by_what_concerns_them() -> None:
    events = events_with()
    one, all_, other = await waiting(events, Watch("a"), Watch(), Watch("b"))

    publish(events, "a")

    async with asyncio.timeout(scaled(20)):
        pages = await asyncio.gather(one, all_)
    assert [page.next for page in pages] == [FAR + 1, FAR + 1]
    assert not other.done()
    publish(events, "b")
    assert [event.sequence for event in (await other).events] == [FAR + 2]


async def test_watcher_of_a_quiet_job_misses_nothing_however_much_happens_to_others() -> None:
    events = events_with(max_kept_events=2)
    patient, watcher = await waiting(events, Watch("quiet", wait_seconds=0.01), Watch("quiet"))

    for _ in range(10):
        publish(events, "busy")
    nothing = await patient
    publish(events, "busy", "quiet")

    (event,) = (await watcher).events
    assert (event.kind, event.job_id) == ("deleted", "quiet")
    assert (nothing.events, nothing.next) == ([], FAR + 10)


@pytest.mark.parametrize("first_comes", ["before the watcher", "after it"])
async def test_events_that_come_thick_and_fast_are_gathered_for_those_who_follow_closely(
    monkeypatch: pytest.MonkeyPatch, first_comes: str
) -> None:
    monkeypatch.setattr(events_module, "GATHER_SECONDS", scaled(0.1))
    events = events_with("a")
    after = FAR if first_comes == "before the watcher" else FAR + 1
    (watcher,) = await waiting(events, Watch(after=after))

    publish(events, "b")
    await asyncio.sleep(0)
    publish(events, "c")

    gathered = [event.job_id for event in (await watcher).events]
    assert gathered == (["a", "b", "c"] if after == FAR else ["b", "c"])


async def test_event_that_comes_after_a_while_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "GATHER_SECONDS", 0.0)
    events = events_with("a")
    (watcher,) = await waiting(events, Watch())
    monkeypatch.setattr(events_module, "GATHER_SECONDS", 3600.0)

    publish(events, "b")

    async with asyncio.timeout(scaled(20)):
        assert [event.job_id for event in (await watcher).events] == ["b"]


async def test_what_concerns_no_job_in_particular_is_told_to_all() -> None:
    events = events_with()
    watchers = await waiting(events, Watch("a"), Watch())

    events.publish([Event(0, utc_now(), "missed", message="who knows what")])

    for watcher in watchers:
        assert [event.kind for event in (await watcher).events] == ["missed"]


async def test_those_who_wait_get_an_empty_page_in_the_end() -> None:
    events = events_with("a")

    page = await events.page(Watch(wait_seconds=0.01))

    assert (page.events, page.next) == ([], FAR + 1)


async def test_watcher_that_gave_up_is_forgotten_and_those_beside_it_are_not() -> None:
    events = events_with()
    gone, staying = await waiting(events, Watch("a"), Watch("a"))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert len(events._waiting["a"]) == 1

    publish(events, "a")

    assert len((await staying).events) == 1
    assert events._waiting == {}


async def test_daemon_that_ends_wakes_all() -> None:
    events = events_with()
    tasks = await waiting(events, Watch("a"), Watch())

    events.end_waits()

    async with asyncio.timeout(scaled(20)):
        assert [page.events for page in await asyncio.gather(*tasks)] == [[], []]


# -- in the daemon ------------------------------------------------------------------------------


def test_write_that_is_undone_with_its_transaction_is_told_once_if_it_is_done_at_all(
    daemon: DaemonProcess,
) -> None:
    """Requests of one batch, of which some are refused after they changed something."""
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=50))
        start = wire.ask(Watch(wait_seconds=0)).next
        for number in range(1, 40):
            wire.send(SaveSheet("job", SheetState(sheet_num=number)))
            wire.send(RecordExecution("job", 100 + number, 1))
        for _ in range(78):
            wire.receive()

        events = wire.ask(Watch(after=start)).events

    assert [event.sheet_num for event in events] == list(range(1, 40))


def test_request_that_is_sent_again_is_told_once(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket, b"c" * 16) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=5))
        start = wire.ask(Watch(wait_seconds=0)).next
        for _ in range(2):
            wire.send(SaveSheet("job", SheetState(sheet_num=1)), 64 * 1_000)
            wire.receive()

        events = wire.ask(Watch(after=start)).events

    assert [event.sheet_num for event in events] == [1]


def test_watch_goes_on_over_a_kill_of_the_daemon_and_says_what_it_cannot_know(
    daemon: DaemonProcess,
) -> None:
    with Client(daemon.socket, timeout=scaled(20)) as client:
        client.save(CheckpointState(job_id="job", total_sheets=5))
        events = client.watch(after=0)
        first = next(events)
        daemon.kill()
        daemon.start()
        client.mark_sheet_status("job", 1, "completed")

        missed, sheet = next(events), next(events)

    assert (first.kind, missed.kind) == ("job", "missed")
    assert (sheet.kind, sheet.sheet_num) == ("sheet", 1)
    assert first.sequence < missed.sequence < sheet.sequence


def test_watch_from_now_knows_its_beginning_when_the_daemon_is_killed_before_anything_happens(
    daemon: DaemonProcess,
) -> None:
    with Client(daemon.socket, timeout=scaled(20)) as client, ThreadPoolExecutor(1) as thread:
        first = thread.submit(next, client.watch())

        def waits_for_its_second_page() -> bool:
            with Wire(daemon.socket) as wire:
                connected = wire.ask(ListClients())
            return any(
                (one.last_operation, one.requests, one.in_flight) == ("watch", 2, 1)
                for one in connected
            )

        wait_until(waits_for_its_second_page)
        daemon.restart()

        assert first.result(scaled(20)).kind == "missed"


def test_events_of_eight_writers_come_in_the_order_of_the_commits(daemon: DaemonProcess) -> None:
    """Who follows them knows what the database has."""
    job_ids = ["own 1", "own 2", "shared"]

    def write(number: int) -> None:
        with Client(daemon.socket, timeout=scaled(20)) as client:
            for round_ in range(20):
                job_id = job_ids[(number + round_) % 3]
                client.mark_sheet_status(job_id, number, STATUSES[round_ % 3])
                client.record_execution(job_id, number, round_)

    with Wire(daemon.socket) as wire, ThreadPoolExecutor(8) as threads:
        for job_id in job_ids:
            wire.save(CheckpointState(job_id=job_id, total_sheets=100))
        start = wire.ask(Watch(wait_seconds=0)).next
        list(threads.map(write, range(1, 9)))
        events = wire.ask(Watch(after=start)).events

        for job_id in job_ids:
            state, sheets = wire.load(job_id)
            told = [event for event in events if event.job_id == job_id and event.revision]
            assert [event.revision for event in told if event.kind == "sheet"] == list(
                range(2, state.revision + 1)
            )
            assert (told[-1].revision, told[-1].job_status) == (state.revision, state.status)
            last = {event.sheet_num: event.sheet_status for event in told if event.sheet_num}
            assert last == {number: sheet.status for number, sheet in sheets.items()}
    assert [event.sequence for event in events] == list(range(start + 1, start + len(events) + 1))
    recorded = [event.execution_id for event in events if event.kind == "execution"]
    assert recorded == list(range(1, 161))


def test_much_at_once_is_not_told_one_by_one(daemon: DaemonProcess) -> None:
    sheets = {number: SheetState(sheet_num=number) for number in range(1, MAX_SHEETS_NOTED + 4)}
    with Wire(daemon.socket) as wire:
        start = wire.ask(Watch(wait_seconds=0)).next
        wire.save(CheckpointState(job_id="job", total_sheets=5_000, sheets=sheets))
        first = wire.ask(Watch(after=start))
        rest = wire.ask(Watch(after=first.next)).events

    assert [event.sheet_num for event in first.events[-2:]] == [998, 999]
    assert [event.kind for event in rest] == ["sheet", "missed"]
    assert (rest[1].job_id, (rest[1].message or "").split(";")[0]) == (
        "job",
        "3 more sheets were saved or removed at once",
    )


def test_what_another_program_writes_is_told_as_missed(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, closing(sqlite3.connect(daemon.database)) as other:
        wire.save(CheckpointState(job_id="job", total_sheets=5))
        start = wire.ask(Watch(wait_seconds=0)).next
        with other:
            other.execute("UPDATE jobs SET description = 'changed'")
        wire.save(CheckpointState(job_id="another", total_sheets=5))  # then it is noticed at once

        (missed,) = wire.ask(Watch("job", after=start)).events

    assert (missed.kind, missed.job_id) == ("missed", None)
    assert "another program" in (missed.message or "")


def test_long_message_is_cut(daemon: DaemonProcess) -> None:
    long = "x" * 10 * MAX_NOTED_CHARACTERS
    with Wire(daemon.socket) as wire:
        start = wire.ask(Watch(wait_seconds=0)).next
        state = CheckpointState(job_id="job", total_sheets=5)
        state.mark_job_failed(long)
        wire.save(state)
        wire.ask(SaveSheet("job", SheetState(sheet_num=1, error_message=long)))
        job, sheet = wire.ask(Watch(after=start)).events

    assert job.message == sheet.message == f"{long[: MAX_NOTED_CHARACTERS - 1]}…"


def test_process_that_dies_is_told_as_a_zombie(daemon: DaemonProcess) -> None:
    with sleeper() as process, Wire(daemon.socket) as wire:
        state = CheckpointState(job_id="job", total_sheets=5)
        state.set_running_pid(process.pid)
        state.mark_sheet_started(1)
        wire.save(state)
        start = wire.ask(Watch(wait_seconds=0)).next

        process.kill()

        (zombie,) = wire.ask(Watch(after=start, wait_seconds=min(scaled(20), 60))).events
    assert (zombie.kind, zombie.job_id, zombie.job_status) == ("zombie", "job", "paused")
    assert zombie.message
