"""The store: group commit, requests applied once, and what a failing write does to others."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.codec import (
    decode_reply,
    encode_part,
    encode_reply,
    encode_request,
    open_envelope,
)
from jobkeep_protocol.errors import (
    InvalidRequest,
    JobkeepError,
    JobNotFound,
    LimitExceeded,
    ProtocolError,
    StorageError,
)
from jobkeep_protocol.messages import (
    SLOTS,
    ClaimNextSheet,
    Delete,
    GetExecutionHistoryCount,
    GetNextSheet,
    ListJobs,
    Load,
    MarkSheetStatus,
    RecordExecution,
    Save,
    SaveSheet,
    Watch,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus, utc_now
from jobkeepd.limits import DEFAULT_LIMITS, Limits
from jobkeepd.store import applied as applied_module
from jobkeepd.store import committer as committer_module
from jobkeepd.store import reads as reads_module
from jobkeepd.store import writer as writer_module
from jobkeepd.store.applied import AppliedRequests, RequestKey
from jobkeepd.store.committer import Committer, Write
from jobkeepd.store.connection import create_private, open_for_writing, wal_path
from jobkeepd.store.failures import LockedOutError
from jobkeepd.store.lock import DatabaseInUse, DatabaseLock
from jobkeepd.store.migrations import migrate
from jobkeepd.store.readers import ROWS_AT_ONCE
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, TABLES
from jobkeepd.store.store import Store
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writer import FEW_BYTES, FEW_WRITES
from jobkeepd.store.writes import WRITES, Handler
from tests.support import scaled

NO_KEY = RequestKey(b"", 1)
CLIENT = b"a client"
RECORD = RecordExecution("job", 1, 1)
DELETE = Delete("job")


def save(job_id: str = "job") -> Save:
    """A request to make a job."""
    return Save(CheckpointState(job_id=job_id, total_sheets=3), [])


class OpenStore:
    """A store, and the requests that were made to it."""

    def __init__(self, database: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.store = Store(database, "full", lambda _: None, limits=limits)

    def submit(
        self, request: Request[Any], key: RequestKey = NO_KEY, size: int | None = None
    ) -> asyncio.Future[Any]:
        """Hand in a write; the future has the body of its reply, or its error."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if size is None:
            size = len(encode_request(key.request_id, request))
        self.store.submit(request, key, None, answered.set_result, size)
        return answered

    async def write(self, request: Request[Any], key: RequestKey = NO_KEY) -> Any:
        """Apply a write; gives its reply or raises its error."""
        outcome = await self.submit(request, key)
        if isinstance(outcome, JobkeepError):
            raise outcome
        return decode_reply(type(request), open_envelope(outcome)[1])

    async def count(self) -> int:
        """How many attempts of the job are kept."""
        count: int = await self.store.read(GetExecutionHistoryCount("job"))
        return count


def as_sent(request: Request[Any], reply: Any) -> Any:
    """A reply as its client sees it."""
    return decode_reply(type(request), open_envelope(encode_reply(1, reply))[1])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


@pytest.fixture
async def open_store(database: Path) -> AsyncIterator[Callable[[], OpenStore]]:
    """Opens the store, as often as it is wanted; what is left open is closed at the end."""
    async with AsyncExitStack() as stack:

        def open_and_close_later() -> OpenStore:
            opened = OpenStore(database)
            stack.push_async_callback(opened.store.close)
            return opened

        yield open_and_close_later


@pytest.fixture
async def opened(open_store: Callable[[], OpenStore]) -> OpenStore:
    """A store with one job."""
    opened = open_store()
    await opened.write(save())
    return opened


@pytest.fixture
def another_program(opened: OpenStore, database: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody who should not write; it does not wait for any lock."""
    assert opened.store.writes
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        yield connection


# -- group commit -------------------------------------------------------------------------------


async def test_writes_that_arrive_together_share_a_commit(opened: OpenStore) -> None:
    commits, writes = opened.store.commits, opened.store.writes

    await asyncio.gather(*(opened.submit(RECORD) for _ in range(100)))

    assert opened.store.writes - writes == 100
    assert opened.store.commits - commits == 1
    assert await opened.count() == 100


async def test_writes_that_arrive_during_a_commit_share_the_next(
    opened: OpenStore, another_program: sqlite3.Connection
) -> None:
    commits = opened.store.commits
    another_program.execute("BEGIN IMMEDIATE")
    first = opened.submit(RECORD)
    await asyncio.sleep(0)  # it is begun, and waits for the lock

    others = [opened.submit(RECORD) for _ in range(100)]
    another_program.rollback()
    await asyncio.gather(first, *others)

    assert opened.store.commits - commits == 2
    assert await opened.count() == 101


async def test_replies_come_after_the_commit_that_holds_them(opened: OpenStore) -> None:
    events: list[str] = []
    opened.store._writer._committer._connection.set_trace_callback(
        lambda sql: events.append(sql.split()[0])
    )

    answers = [opened.submit(RECORD) for _ in range(3)]
    for answer in answers:
        answer.add_done_callback(lambda _: events.append("reply"))
    await asyncio.gather(*answers)

    assert events.count("reply") == 3
    for place, event in enumerate(events):
        if event == "reply":
            before = events[:place]
            committed = before[: len(before) - before[::-1].index("COMMIT")]
            assert before.count("reply") < committed.count("INSERT")


async def test_what_was_written_is_told_before_it_is_acknowledged(opened: OpenStore) -> None:
    told: list[bool] = []

    def done(_: object) -> None:
        told.append("new" in {event.job_id for event in opened.store.events._kept})

    opened.store.submit(save("new"), NO_KEY, None, done, 0)
    await opened.store.drain()

    assert told == [True]


async def test_read_after_an_acknowledged_write_sees_it(opened: OpenStore) -> None:
    for number in range(1, 30):
        await opened.write(RECORD)
        assert await opened.count() == number


async def test_list_gives_each_job_once_however_often_all_of_them_change(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_module, "JOBS_A_PAGE", 2)
    names = ["job", "b", "c", "d", "e"]
    after: int | None = 0
    listed: list[str] = []

    while after is not None:
        for name in names:
            await opened.write(save(name))
        page = as_sent(ListJobs(), await opened.store.read(ListJobs(after)))
        listed += [one.state.job_id for one in page.states]
        after = page.next

    assert listed == names


async def test_ids_of_one_transaction_are_in_the_order_of_the_requests(opened: OpenStore) -> None:
    answers = await asyncio.gather(*(opened.submit(RECORD) for _ in range(20)))
    ids = [decode_reply(RecordExecution, open_envelope(answer)[1]) for answer in answers]
    assert ids == list(range(1, 21))


async def test_long_read_gives_others_a_turn(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = CheckpointState(job_id="long", total_sheets=5 * ROWS_AT_ONCE)
    sheets = [SheetState(sheet_num=number) for number in range(1, 5 * ROWS_AT_ONCE + 1)]
    await opened.write(Save(state, sheets))
    encoded_in_a_turn = [0]

    def encode(part: Any) -> msgspec.Raw:
        encoded_in_a_turn[-1] += 1
        return encode_part(part)

    async def count_turns() -> None:
        while True:
            encoded_in_a_turn.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(reads_module, "encode_part", encode)
    turns = asyncio.create_task(count_turns())
    await opened.store.read(Load("long"))
    turns.cancel()

    assert sum(encoded_in_a_turn) > 5 * ROWS_AT_ONCE
    assert max(encoded_in_a_turn) <= ROWS_AT_ONCE


def _refuse_what_it_has_noted(tx: Transaction, request: Delete) -> bool:
    tx.note("deleted", utc_now(), request.job_id)
    raise InvalidRequest("not today")


def _refuse_after_a_change(tx: Transaction, request: Delete) -> bool:
    tx.remove_job(request.job_id)
    tx.note("deleted", utc_now(), request.job_id)
    raise InvalidRequest("not today")


def _break_a_constraint(tx: Transaction, request: Delete) -> bool:
    tx.remove_job(request.job_id)
    tx.note("deleted", utc_now(), request.job_id)
    tx.run("INSERT INTO sheets (job_id, sheet_num) VALUES ('nobody', 1)")
    return True


def _be_defective(tx: Transaction, request: Delete) -> bool:
    tx.remove_job(request.job_id)
    tx.note("deleted", utc_now(), request.job_id)
    raise KeyError("a defect")


def let_deletes(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be done for every Delete."""
    handlers: dict[type[Any], Handler] = dict(WRITES)
    handlers[Delete] = handler
    monkeypatch.setattr(committer_module, "WRITES", handlers)


@pytest.mark.parametrize(
    ("fail", "error", "words"),
    [
        (_refuse_what_it_has_noted, InvalidRequest, "not today"),
        (_refuse_after_a_change, InvalidRequest, "not today"),
        (_break_a_constraint, StorageError, "Delete was refused, and nothing was written: FOREIGN"),
        (_be_defective, JobkeepError, "a defect of jobkeepd in Delete .*KeyError"),
    ],
)
async def test_write_that_fails_does_so_alone(
    opened: OpenStore,
    monkeypatch: pytest.MonkeyPatch,
    fail: Handler,
    error: type[JobkeepError],
    words: str,
) -> None:
    let_deletes(fail, monkeypatch)

    await asyncio.gather(
        *(opened.submit(RECORD) for _ in range(5)),
        failing := opened.submit(DELETE),
        *(opened.submit(RECORD) for _ in range(5)),
        late := opened.submit(save("late")),
    )

    with pytest.raises(error, match=words):
        raise failing.result()
    assert isinstance(late.result(), bytes)
    assert await opened.count() == 10
    assert (await opened.store.read(Load("late"))) is not None
    assert await opened.write(RECORD) == 11
    told = (await opened.store.events.page(Watch(after=0))).events
    assert [event.kind for event in told if event.job_id != "late"][-11:] == ["execution"] * 11
    assert "deleted" not in {event.kind for event in told}


async def test_write_that_changed_nothing_costs_its_neighbours_nothing(opened: OpenStore) -> None:
    commits = opened.store.commits

    first = opened.submit(RECORD)
    refused = opened.submit(MarkSheetStatus("unknown", 1, SheetStatus.READY))
    last = opened.submit(RECORD)
    await asyncio.gather(first, refused, last)

    assert isinstance(refused.result(), JobNotFound)
    assert opened.store.commits - commits == 1
    assert await opened.count() == 2


# -- on the loop or beside it -------------------------------------------------------------------

SMALL: dict[str, Request[Any]] = {
    "record": RECORD,
    "change": Save(CheckpointState(job_id="job", total_sheets=3), [], base=0),
    "mark": MarkSheetStatus("job", 1, SheetStatus.READY),
    "claim": ClaimNextSheet("job"),
}
LARGE: dict[str, Request[Any]] = {
    "long output": RecordExecution("job", 1, 1, output="x" * 1_100_000),
    "long text in a sheet": SaveSheet(
        "job", SheetState(sheet_num=1, error_message="x" * 1_100_000)
    ),
    "whole state": save(),
    "many sheets": Save(
        CheckpointState(job_id="job", total_sheets=99),
        [SheetState(sheet_num=number) for number in range(1, 99)],
        base=0,
    ),
    "many sheets removed": Save(
        CheckpointState(job_id="job", total_sheets=99), [], base=0, removed=list(range(1, 99))
    ),
    "delete": DELETE,
}


def note_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that writes are applied on, from now on."""
    threads: list[int] = []

    def noting(handler: Handler) -> Handler:
        def note_and_apply(tx: Transaction, request: Any) -> Any:
            threads.append(threading.get_ident())
            return handler(tx, request)

        return note_and_apply

    handlers = {kind: noting(handler) for kind, handler in WRITES.items()}
    monkeypatch.setattr(committer_module, "WRITES", handlers)
    return threads


@pytest.mark.parametrize("request_", SMALL.values(), ids=SMALL)
async def test_small_write_is_applied_on_the_loop(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch, request_: Request[Any]
) -> None:
    monkeypatch.setattr(writer_module, "QUICK_SECONDS", math.inf)
    threads = note_threads(monkeypatch)

    await opened.write(request_)

    assert threads == [threading.get_ident()]


@pytest.mark.parametrize("request_", LARGE.values(), ids=LARGE)
async def test_large_write_holds_up_nobody_on_the_loop(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch, request_: Request[Any]
) -> None:
    monkeypatch.setattr(writer_module, "QUICK_SECONDS", math.inf)
    threads = note_threads(monkeypatch)

    await opened.write(request_)

    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_much_in_a_few_writes_holds_up_nobody_on_the_loop(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUICK_SECONDS", math.inf)
    threads = note_threads(monkeypatch)
    request = RecordExecution("job", 1, 1, output="x" * (FEW_BYTES // 2))

    await asyncio.gather(*(opened.submit(request) for _ in range(3)))

    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_many_writes_hold_up_nobody_on_the_loop(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUICK_SECONDS", math.inf)
    threads = note_threads(monkeypatch)

    await asyncio.gather(*(opened.submit(RECORD) for _ in range(FEW_WRITES + 1)))

    assert len(threads) == FEW_WRITES + 1
    assert threading.get_ident() not in threads


async def test_slow_disk_holds_up_nobody_on_the_loop(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUICK_SECONDS", 0.0)  # slower than this is any disk
    threads = note_threads(monkeypatch)

    await opened.write(RECORD)

    assert threads != [threading.get_ident()]


async def test_lock_of_another_program_holds_up_no_read(
    opened: OpenStore, another_program: sqlite3.Connection
) -> None:
    another_program.execute("BEGIN IMMEDIATE")
    waiting = opened.submit(RECORD)

    assert await opened.count() == 0
    assert not waiting.done()

    another_program.rollback()
    assert isinstance(await waiting, bytes)
    assert await opened.count() == 1


async def test_lock_that_is_not_given_back_is_an_error_of_every_write_that_waited(
    opened: OpenStore, another_program: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "LOCK_PATIENCE_SECONDS", 0.01)
    another_program.execute("BEGIN IMMEDIATE")

    outcomes = await asyncio.gather(*(opened.submit(RECORD) for _ in range(3)))

    assert [one.data for one in outcomes] == [{"reason": "locked"}] * 3
    another_program.rollback()
    assert await opened.write(RECORD) == 1


def test_write_that_was_committed_before_the_lock_was_lost_is_not_applied_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_deletes(_refuse_after_a_change, monkeypatch)
    create_private(database)
    connection = open_for_writing(database, "full", 0)
    migrate(connection)
    committer = Committer(database, connection)
    committer.commit([Write(save(), print)])
    batch = [Write(RECORD, print), Write(DELETE, print), Write(RECORD, print)]
    in_one_transaction = committer._transaction

    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as another:

        def transaction(writes: list[Write]) -> None:
            in_one_transaction(writes)
            another.execute("BEGIN IMMEDIATE")

        monkeypatch.setattr(committer, "_transaction", transaction)
        with pytest.raises(LockedOutError):
            committer.commit(batch)
        monkeypatch.setattr(committer, "_transaction", in_one_transaction)
        another.rollback()
    assert [write.outcome for write in batch] == [1, None, None]

    committer.commit_patiently(batch)

    assert [batch[0].outcome, batch[2].outcome] == [1, 2]
    assert isinstance(batch[1].outcome, InvalidRequest)
    assert [event.execution_id for event in committer.take_noted()] == [None, 1, 2]
    committer.close()


@pytest.mark.parametrize(
    ("limits", "limit", "maximum"),
    [
        (Limits(max_queued_writes=3), "max_queued_writes", 3),
        (Limits(max_queued_bytes=300), "max_queued_bytes", 300),
    ],
)
async def test_queue_that_is_full_is_said_to_be_so(
    database: Path, limits: Limits, limit: str, maximum: int
) -> None:
    opened = OpenStore(database, limits)
    await opened.write(save())
    taken = [opened.submit(RECORD, size=100) for _ in range(3)]

    with pytest.raises(LimitExceeded, match="busy: 3 writes of 300 bytes wait") as refused:
        opened.submit(RECORD, size=1)

    assert refused.value.data == {"limit": limit, "maximum": maximum}
    await asyncio.gather(*taken)
    assert await opened.write(RECORD) == 4
    await opened.store.close()


async def test_write_that_is_larger_than_the_queue_is_taken_when_nothing_waits(
    database: Path,
) -> None:
    opened = OpenStore(database, Limits(max_queued_bytes=10))
    await opened.write(save())
    assert await opened.submit(RECORD, size=11) is not None
    await opened.store.close()


async def test_close_finishes_what_was_submitted(open_store: Callable[[], OpenStore]) -> None:
    opened = open_store()
    answers = [opened.submit(save()), *(opened.submit(RECORD) for _ in range(20))]

    await opened.store.close()

    assert all(answer.done() for answer in answers)
    assert await open_store().count() == 20


async def test_write_that_comes_after_the_close_began_is_refused(
    open_store: Callable[[], OpenStore],
) -> None:
    opened = open_store()
    closing = asyncio.create_task(opened.store.close())
    await asyncio.sleep(0)

    with pytest.raises(StorageError, match="has been closed; nothing was written"):
        opened.submit(save())

    await closing


async def test_interrupt_during_a_commit_leaves_nobody_waiting(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_interrupted(tx: Transaction, request: ClaimNextSheet) -> int:
        tx.run("UPDATE jobs SET name = 'half' WHERE id = ?", (request.job_id,))
        raise KeyboardInterrupt

    handlers: dict[type[Any], Handler] = {ClaimNextSheet: be_interrupted}
    monkeypatch.setattr(committer_module, "WRITES", handlers)
    writer = opened.store._writer
    outcomes: list[Any] = []
    writer._idle.clear()
    writer._queue.append(Write(ClaimNextSheet("job"), outcomes.append))

    with pytest.raises(KeyboardInterrupt):
        writer._begin()

    assert [one.data for one in outcomes] == [{"outcome": "unknown"}]
    with pytest.raises(StorageError, match="may or may not be there"):
        await opened.write(RECORD)
    await opened.store.close()
    assert not wal_path(opened.store.database).exists()


async def test_defect_of_one_caller_keeps_no_other_write_from_its_answer(
    opened: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    def defective(_: object) -> None:
        raise RuntimeError("a caller's defect")

    opened.store.submit(save(), NO_KEY, None, defective, 0)
    beside = opened.submit(RECORD)

    async with asyncio.timeout(scaled(10)):
        await beside
        await opened.write(RECORD)
    assert "a caller's defect" in caplog.text


async def test_sequence_of_a_deleted_job_never_comes_again(
    open_store: Callable[[], OpenStore],
) -> None:
    opened = open_store()
    first = await opened.write(save())
    await opened.write(DELETE)
    await opened.store.close()
    opened = open_store()

    outdated = await opened.write(msgspec.structs.replace(save(), base=first.sequence))
    second = await opened.write(save())

    assert outdated is None
    assert second.sequence > first.sequence


# -- requests that come again -------------------------------------------------------------------


async def test_request_with_the_same_key_is_applied_once(opened: OpenStore) -> None:
    key = RequestKey(CLIENT, 5)

    first = await opened.submit(RECORD, key)
    again = await opened.submit(RECORD, key)

    assert first == again
    assert await opened.count() == 1


async def test_request_with_the_same_key_is_applied_once_in_one_transaction(
    opened: OpenStore,
) -> None:
    key = RequestKey(CLIENT, 5)
    answers = await asyncio.gather(*(opened.submit(RECORD, key) for _ in range(9)))
    assert len(set(answers)) == 1
    assert await opened.count() == 1


async def test_request_with_the_same_key_is_applied_once_over_a_restart(
    open_store: Callable[[], OpenStore],
) -> None:
    opened = open_store()
    await opened.write(save(), RequestKey(CLIENT, 4))
    first = await opened.submit(RECORD, RequestKey(CLIENT, 5))
    await opened.store.close()

    opened = open_store()
    again = await opened.submit(RECORD, RequestKey(CLIENT, 5))

    assert first == again
    assert await opened.count() == 1


async def test_older_request_of_the_same_slot_is_refused(opened: OpenStore) -> None:
    await opened.write(RECORD, RequestKey(CLIENT, 5 + SLOTS))

    with pytest.raises(ProtocolError, match=f"request 5 comes after request {5 + SLOTS}"):
        await opened.write(RECORD, RequestKey(CLIENT, 5))

    assert await opened.count() == 1


@pytest.mark.parametrize(
    "key",
    [RequestKey(CLIENT, 5 + SLOTS), RequestKey(CLIENT, 4), RequestKey(b"another", 5)],
    ids=["later in the slot", "another slot", "another client"],
)
async def test_other_keys_are_other_requests(opened: OpenStore, key: RequestKey) -> None:
    await opened.write(RECORD, RequestKey(CLIENT, 5))
    await opened.write(RECORD, key)
    assert await opened.count() == 2


async def test_client_without_an_id_is_never_taken_for_another(opened: OpenStore) -> None:
    await opened.write(RECORD, RequestKey(b"", 5))
    await opened.write(RECORD, RequestKey(b"", 5))
    assert await opened.count() == 2


async def test_request_that_was_refused_may_succeed_when_it_comes_again(
    opened: OpenStore,
) -> None:
    key, mark = RequestKey(CLIENT, 5), MarkSheetStatus("late", 1, SheetStatus.READY)
    with pytest.raises(JobNotFound):
        await opened.write(mark, key)
    await opened.write(save("late"))

    assert await opened.write(mark, key) is None


async def test_request_beside_a_failing_one_is_applied_once(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_deletes(_refuse_after_a_change, monkeypatch)
    keys = [RequestKey(CLIENT, number) for number in range(5, 9)]

    first = asyncio.gather(*(opened.submit(RECORD, key) for key in keys))
    opened.submit(DELETE)
    before = await first
    again = await asyncio.gather(*(opened.submit(RECORD, key) for key in keys))

    assert before == again
    assert await opened.count() == 4


@pytest.fixture
def connection() -> sqlite3.Connection:
    """A database in memory, with the tables."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(TABLES + INDEXES_AND_TRIGGERS)
    return connection


def _apply(applied: AppliedRequests, key: RequestKey, reply: bytes) -> None:
    applied.add(key, reply)
    applied.store()
    applied.committed()


def test_replies_are_kept_on_disk_beyond_those_in_memory(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied_module, "KEPT_CLIENTS", 2)
    applied = AppliedRequests(connection)
    keys = [RequestKey(bytes([number]), 1) for number in range(5)]
    for key in keys:
        _apply(applied, key, key.client_id * 3)

    assert len(applied._clients) == 2
    assert [applied.reply_to(key) for key in keys] == [key.client_id * 3 for key in keys]
    connection.close()


def test_what_is_rolled_back_was_not_applied(connection: sqlite3.Connection) -> None:
    applied = AppliedRequests(connection)
    _apply(applied, RequestKey(CLIENT, 1), b"kept")
    connection.execute("BEGIN")
    applied.add(RequestKey(CLIENT, 2), b"lost")
    applied.store()
    connection.execute("ROLLBACK")
    applied.rolled_back()

    assert applied.reply_to(RequestKey(CLIENT, 1)) == b"kept"
    assert applied.reply_to(RequestKey(CLIENT, 2)) is None
    connection.close()


def test_replies_that_nobody_will_ask_for_expire(connection: sqlite3.Connection) -> None:
    applied = AppliedRequests(connection)
    for number in (1, 2):
        _apply(applied, RequestKey(bytes([number]), 1), b"reply")
    connection.execute(
        "UPDATE applied_requests SET applied_at = '2020' WHERE client_id = ?", (bytes([1]),)
    )

    applied.expire()

    left = AppliedRequests(connection)
    assert left.reply_to(RequestKey(bytes([1]), 1)) is None
    assert left.reply_to(RequestKey(bytes([2]), 1)) == b"reply"
    connection.close()


# -- opening ------------------------------------------------------------------------------------


async def test_second_store_on_a_database_is_refused(opened: OpenStore, database: Path) -> None:
    with pytest.raises(DatabaseInUse, match=r"in use by process \d+"):
        Store(database, "full", lambda _: None)
    assert await opened.write(RECORD) == 1


async def test_lock_is_given_back_by_close_and_by_a_failed_opening(database: Path) -> None:
    garbage = b"garbage" * 1000
    await asyncio.to_thread(database.write_bytes, garbage)
    with pytest.raises(StorageError):
        Store(database, "full", lambda _: None)
    await asyncio.to_thread(database.unlink)

    store = Store(database, "full", lambda _: None)
    await store.close()

    lock = DatabaseLock(database)
    lock.release()
    lock.release()


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_connection_has_the_settings_it_needs(
    database: Path, durability: Any, level: int
) -> None:
    store = Store(database, durability, lambda _: None)
    pragma = store._writer._committer._connection.execute
    found = {
        name: pragma(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
    }
    await store.close()

    assert found == {
        "journal_mode": "wal",
        "synchronous": level,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
    }


async def test_readers_cannot_write(opened: OpenStore) -> None:
    assert await opened.store.read(GetNextSheet("job")) == 1
    async with opened.store._readers.connection() as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await connection.execute("DELETE FROM jobs")
