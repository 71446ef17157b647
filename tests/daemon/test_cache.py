"""The cache of states: bounded, and never older than what was acknowledged."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.codec import decode_reply, encode_reply, open_envelope
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    Load,
    Loaded,
    MarkSheetStatus,
    RecordExecution,
    Save,
    SaveSheet,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.processes import ProcessId, current_boot_id
from jobkeepd.store.applied import RequestKey
from jobkeepd.store.cache import ENTRY_BYTES, Reading, StateCache
from jobkeepd.store.store import Store
from tests.support import wait_until_async

STATE = msgspec.Raw(b"x" * 1000)
ROOM = len("a") + 1000 + ENTRY_BYTES
"""What one such state takes."""

# -- the cache by itself ------------------------------------------------------------------------


def put(cache: StateCache, *job_ids: str) -> None:
    """Keep a state for each of these jobs."""
    for job_id in job_ids:
        cache.put(job_id, STATE, Reading())


def known(cache: StateCache, job_ids: str) -> str:
    """Which of these jobs are known."""
    return "".join(job_id for job_id in job_ids if cache.get(job_id) is not None)


def test_states_used_longest_ago_make_room() -> None:
    cache = StateCache(3 * ROOM)
    put(cache, "a", "b", "c")
    cache.get("a")

    put(cache, "d")

    assert known(cache, "abcd") == "acd"
    assert cache.bytes == 3 * ROOM


def test_state_that_does_not_fit_is_not_kept() -> None:
    cache = StateCache(ROOM - 1)

    put(cache, "a")

    assert (known(cache, "a"), cache.bytes) == ("", 0)


def test_state_kept_again_takes_its_room_once() -> None:
    cache = StateCache(3 * ROOM)

    put(cache, "a", "a")

    assert cache.bytes == ROOM


def test_state_that_has_changed_is_forgotten() -> None:
    cache = StateCache(3 * ROOM)
    put(cache, "a", "b")

    cache.changed("a")
    assert (known(cache, "ab"), cache.bytes) == ("b", ROOM)

    cache.all_changed()
    assert (known(cache, "ab"), cache.bytes) == ("", 0)


@pytest.mark.parametrize("change", ["one", "all"])
def test_state_that_changed_while_it_was_read_is_not_kept(change: str) -> None:
    cache = StateCache(3 * ROOM)

    with cache.reading("a") as first, cache.reading("a") as second:
        if change == "one":
            cache.changed("a")
        else:
            cache.all_changed()
        with cache.reading("a") as later:
            for reading in (first, second):
                cache.put("a", STATE, reading)
                assert known(cache, "a") == ""
            cache.put("a", STATE, later)

    assert known(cache, "a") == "a"


def test_change_of_another_job_does_not_matter() -> None:
    cache = StateCache(3 * ROOM)

    with cache.reading("a") as reading:
        cache.changed("b")
        cache.put("a", STATE, reading)

    assert known(cache, "a") == "a"


# -- in the store -------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    """A store with a job of three sheets that a process which is no more is running."""
    store = Store(database, "full", lambda _: None)
    state = CheckpointState(job_id="job", total_sheets=3, status=JobStatus.RUNNING, pid=os.getpid())
    await write(store, Save(state, [SheetState(sheet_num=1)]), GONE)
    yield store
    await store.close()


GONE = ProcessId(os.getpid(), 1, current_boot_id())


async def write(store: Store, request: Request[Any], process: ProcessId | None = None) -> None:
    """Apply a write; it must succeed."""
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    store.submit(request, RequestKey(b"", 1), process, answered.set_result, 0)
    assert isinstance(await answered, bytes)


def decoded(reply: Any) -> Loaded | None:
    """A reply as its client sees it."""
    return decode_reply(Load, open_envelope(encode_reply(1, reply))[1])


async def test_state_that_was_read_is_known(store: Store) -> None:
    assert store.known(Load("job")) is None

    read = await store.read(Load("job"))

    assert decoded(store.known(Load("job"))) == decoded(read)
    assert store.known(Load("job", after_sheet=0)) is None
    assert store.known(Load("other")) is None


CHANGES: dict[str, Request[Any]] = {
    "save": Save(CheckpointState(job_id="job", total_sheets=4), []),
    "delete": Delete("job"),
    "mark": MarkSheetStatus("job", 1, SheetStatus.FAILED),
    "save_sheet": SaveSheet("job", SheetState(sheet_num=2)),
    "claim": ClaimNextSheet("job"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_state_is_read_again_after_each_kind_of_change(
    store: Store, change: Request[Any]
) -> None:
    before = decoded(await store.read(Load("job")))

    await write(store, change)

    assert store.known(Load("job")) is None
    assert decoded(await store.read(Load("job"))) != before


async def test_state_is_read_again_after_its_process_was_released(store: Store) -> None:
    await store.read(Load("job"))

    await store.release(GONE)

    assert store.known(Load("job")) is None
    after = decoded(await store.read(Load("job")))
    assert after is not None
    assert after.state is not None
    assert after.state.status is JobStatus.PAUSED


async def test_attempt_that_is_recorded_leaves_the_state_known(store: Store) -> None:
    before = decoded(await store.read(Load("job")))

    await write(store, RecordExecution("job", 1, 1))

    assert decoded(store.known(Load("job"))) == before
    assert decoded(await store.read(Load("job"))) == before


async def test_job_that_is_not_there_is_looked_for_each_time(store: Store) -> None:
    assert await store.read(Load("new")) is None

    await write(store, Save(CheckpointState(job_id="new", total_sheets=1), []))

    assert decoded(await store.read(Load("new"))) is not None


async def test_store_without_a_cache_knows_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "other.db", "full", lambda _: None, cache_bytes=0)
    await write(store, Save(CheckpointState(job_id="job", total_sheets=1), []))

    assert decoded(await store.read(Load("job"))) is not None

    assert store.known(Load("job")) is None
    await store.close()


async def test_read_never_gives_what_is_older_than_an_acknowledged_write(store: Store) -> None:
    async def read_for_ever() -> None:
        while True:
            await store.read(Load("job"))

    readers = [asyncio.create_task(read_for_ever()) for _ in range(4)]
    for total in range(4, 54):
        await write(store, Save(CheckpointState(job_id="job", total_sheets=total), []))
        found = decoded(store.known(Load("job")) or await store.read(Load("job")))
        assert found is not None
        assert found.state is not None
        assert found.state.total_sheets == total
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


# -- another program ----------------------------------------------------------------------------


def write_behind_our_back(database: Path) -> None:
    """What no program should do."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE jobs SET name = 'changed', sequence = sequence + 1000")
        connection.execute("INSERT INTO sheets (job_id, sheet_num) VALUES ('job', 2)")


async def test_write_of_another_program_is_noticed_in_a_quiet_moment(
    store: Store, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await store.read(Load("job"))

    await asyncio.to_thread(write_behind_our_back, database)

    async def is_forgotten() -> bool:
        return store.known(Load("job")) is None

    await wait_until_async(is_forgotten)
    assert f"another program has written to {database}" in caplog.text
    found = decoded(await store.read(Load("job")))
    assert found is not None
    assert found.state is not None
    assert found.state.job_name == "changed"


async def test_write_of_another_program_is_noticed_before_ours_relies_on_anything(
    store: Store, database: Path
) -> None:
    await write(store, ClaimNextSheet("job"))  # it has learned which sheet is missing
    await store.read(Load("job"))
    await asyncio.to_thread(write_behind_our_back, database)

    await write(store, Save(CheckpointState(job_id="other", total_sheets=1), []))

    assert store.known(Load("job")) is None
    found = decoded(await store.read(Load("other")))
    assert found is not None
    assert found.sequence > 1000
