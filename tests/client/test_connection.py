"""What a client does when the daemon is not there, goes away, or loses a reply."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkeep import (
    AsyncClient,
    CheckpointState,
    Client,
    DaemonUnavailable,
    JobNotFound,
    PermissionDenied,
    ProtocolError,
    RequestTimeout,
)
from jobkeep_protocol.codec import encode_error, encode_reply, open_envelope
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.framing import FrameReader, frame
from jobkeep_protocol.messages import HELLO_ID, SLOTS, ClaimNextSheet, ReadBackup, StartBackup
from tests.client.proxy import Proxy
from tests.daemon_process import DaemonProcess
from tests.support import scaled, wait_until

A_JOB = CheckpointState(job_id="nightly", total_sheets=1_000_000)
FAST = scaled(0.3)
"""A timeout that is meant to run out."""


class Blocking:
    """`AsyncClient` as seen by a test that is to hold for both: each call in a thread."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client: Client[CheckpointState] = Client(*arguments, **options)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_client":
            super().__setattr__(name, value)
        else:
            setattr(self._client, name, value)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: asyncio.to_thread(method, *arguments, **options)


@pytest.fixture(params=[AsyncClient, Blocking], ids=["async", "blocking"])
def new_client(request: pytest.FixtureRequest) -> Any:
    """Makes a client of either kind."""
    return request.param


@pytest.fixture
def proxy(daemon: DaemonProcess, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy in front of the daemon."""
    with Proxy(tmp_path, daemon.socket) as proxy:
        yield proxy


async def test_no_daemon_is_told_at_once(new_client: Any, tmp_path: Path) -> None:
    client = new_client(tmp_path / "none.sock", timeout=scaled(3600))

    with pytest.raises(DaemonUnavailable, match=r"none\.sock.*start one with `jobkeepd --socket"):
        await client.load("nightly")

    await client.close()


async def test_a_with_block_without_a_daemon_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnavailable), Client(tmp_path / "none.sock"):
        pytest.fail("the block was entered")
    with pytest.raises(DaemonUnavailable):
        async with AsyncClient(tmp_path / "none.sock"):
            pytest.fail("the block was entered")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_socket_that_may_not_be_opened_is_a_permission_denied(daemon: DaemonProcess) -> None:
    for directory in daemon.socket.parents:
        if directory.owner() == "root" and directory != Path("/tmp"):
            directory.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionDenied, match="uid 65534 may not connect"):
            Client(daemon.socket).load("nightly")
    finally:
        os.seteuid(0)


async def test_a_client_connects_on_first_use(
    new_client: Any, daemon_process: DaemonProcess
) -> None:
    client = new_client(daemon_process.socket)

    daemon_process.start()

    assert await client.load("nightly") is None
    await client.close()


async def test_a_closed_client_connects_again(new_client: Any, daemon: DaemonProcess) -> None:
    client = new_client(daemon.socket)
    await client.save(A_JOB)
    await client.close()
    await client.close()

    assert await client.load("nightly") is not None
    await client.close()


async def test_any_declared_operation_can_be_called_page_by_page(
    new_client: Any, daemon: DaemonProcess
) -> None:
    client = new_client(daemon.socket)
    copy = b""

    request: ReadBackup | None = ReadBackup(await client.call(StartBackup()))
    while request is not None:
        page = await client.call(request)
        copy += page.data
        request = request.following(page)

    assert copy.startswith(b"SQLite format 3\0")
    with pytest.raises(JobNotFound, match="'unknown'"):
        await client.call(ClaimNextSheet("unknown"))
    await client.close()


async def test_an_error_leaves_the_connection_usable(new_client: Any, proxy: Proxy) -> None:
    client = new_client(proxy.path)
    await client.save(A_JOB)

    with pytest.raises(JobNotFound):
        await client.mark_sheet_status("unknown", 1, "completed")
    with pytest.raises(InvalidRequest):
        await client.query_jobs(limit=-1)
    with pytest.raises(InvalidRequest):
        await client.record_execution("nightly", 1, 1, output="\ud800")

    assert await client.load("nightly") is not None
    assert proxy.connections == 1
    await client.close()


async def test_a_write_whose_reply_was_lost_is_applied_once(new_client: Any, proxy: Proxy) -> None:
    client = new_client(proxy.path)
    await client.save(A_JOB)

    proxy.loses_replies.set()
    call = asyncio.ensure_future(client.record_execution("nightly", 1, 1, "once"))
    await asyncio.to_thread(proxy.lost.wait, scaled(10))
    proxy.loses_replies.clear()
    proxy.cut()
    record_id = await call

    history = await client.get_execution_history("nightly")
    assert [(record["id"], record["prompt"]) for record in history] == [(record_id, "once")]
    assert proxy.connections == 2
    await client.close()


async def test_a_write_whose_reply_was_lost_with_the_daemon_is_applied_once(
    new_client: Any, proxy: Proxy, daemon: DaemonProcess
) -> None:
    client = new_client(proxy.path)
    await client.save(A_JOB)

    proxy.loses_replies.set()
    call = asyncio.ensure_future(client.claim_next_sheet("nightly"))
    await asyncio.to_thread(proxy.lost.wait, scaled(10))
    daemon.kill()
    proxy.loses_replies.clear()
    proxy.cut()
    daemon.start()

    assert await call == 1
    assert await client.claim_next_sheet("nightly") == 2
    await client.close()


async def test_a_request_without_an_answer_times_out_and_the_client_goes_on(
    new_client: Any, proxy: Proxy
) -> None:
    client = new_client(proxy.path, timeout=FAST)
    patient = new_client(proxy.path)
    await patient.save(A_JOB)
    await client.load("nightly")

    proxy.loses_replies.set()
    with pytest.raises(RequestTimeout, match="may or may not have been applied"):
        await client.record_execution("nightly", 1, 1)
    proxy.loses_replies.clear()
    proxy.cut()

    assert await patient.get_execution_history_count("nightly") == 1
    await client.close()
    await patient.close()


async def test_each_call_has_a_deadline_of_its_own(proxy: Proxy) -> None:
    client = AsyncClient(proxy.path, timeout=scaled(3600))
    await client.save(A_JOB)
    proxy.loses_replies.set()
    ended: list[str] = []

    async def load(name: str, timeout: float) -> None:
        client.timeout = timeout
        with pytest.raises(RequestTimeout, match=f"within {timeout:g} s"):
            await client.load("nightly")
        ended.append(name)

    patient = asyncio.create_task(client.load("nightly"))
    await asyncio.sleep(0)
    await asyncio.gather(load("third", 3 * FAST), load("first", FAST), load("second", 2 * FAST))

    assert ended == ["first", "second", "third"]
    assert not patient.done()
    patient.cancel()
    await client.close()


async def test_a_daemon_that_does_not_come_back_is_unavailable(
    new_client: Any, daemon: DaemonProcess
) -> None:
    client = new_client(daemon.socket, timeout=FAST)
    await client.save(A_JOB)

    daemon.kill()

    with pytest.raises(DaemonUnavailable, match="went away and did not come back"):
        await client.load("nightly")
    daemon.start()
    assert await client.load("nightly") is not None
    await client.close()


async def test_a_request_of_another_task_waits_for_a_slot_and_is_served(
    new_client: Any, daemon: DaemonProcess
) -> None:
    client = new_client(daemon.socket)
    await client.save(A_JOB)

    ids = await asyncio.gather(
        *(client.record_execution("nightly", 1, n) for n in range(1, 4 * SLOTS))
    )

    assert len(set(ids)) == 4 * SLOTS - 1
    await client.close()


async def test_requests_that_gave_up_waiting_for_a_slot_keep_nobody_else_from_one(
    proxy: Proxy,
) -> None:
    client = AsyncClient(proxy.path, timeout=scaled(20))
    await client.save(A_JOB)
    proxy.loses_replies.set()
    under_way = [asyncio.create_task(client.load("nightly")) for _ in range(SLOTS)]
    impatient = [asyncio.create_task(client.load("nightly")) for _ in range(2 * SLOTS)]
    patient = asyncio.create_task(client.load("nightly"))
    await asyncio.to_thread(proxy.lost.wait, scaled(10))

    for call in impatient:
        call.cancel()
    await asyncio.gather(*impatient, return_exceptions=True)
    proxy.loses_replies.clear()
    proxy.cut()

    assert await patient is not None
    assert None not in await asyncio.gather(*under_way)
    await client.close()


async def test_a_peer_that_speaks_something_else_is_a_protocol_error(
    new_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "other.sock"

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(frame(encode_error(HELLO_ID, ProtocolError("only protocol 9 here"))))
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(greet, path):
        client = new_client(path)
        with pytest.raises(ProtocolError, match="only protocol 9 here"):
            await client.load("nightly")
        await client.close()


async def test_a_reply_that_comes_together_with_the_end_of_the_conversation_is_given(
    new_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "other.sock"

    async def answer_and_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: list[bytes] = []
        frames = FrameReader()
        while len(asked) < 2:
            asked.extend(frames.receive_data(await reader.read(65_536)))
        request_id, _ = open_envelope(asked[1])
        end = encode_error(HELLO_ID, ProtocolError("no more of this"))
        writer.write(frame(encode_reply(request_id, 7)) + frame(end))
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(answer_and_end, path):
        client = new_client(path)

        assert await client.get_next_sheet("nightly") == 7

        await client.close()


async def test_calls_that_timed_out_while_the_daemon_was_away_do_not_use_up_the_client(
    new_client: Any, daemon: DaemonProcess
) -> None:
    client = new_client(daemon.socket, timeout=FAST)
    await client.save(A_JOB)
    daemon.kill()
    calls = (client.record_execution("nightly", 1, n) for n in range(1, 2 * SLOTS))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, DaemonUnavailable) for one in outcomes)

    daemon.start()

    client.timeout = scaled(20)
    assert await client.load("nightly") is not None
    await client.close()


async def test_closing_a_client_ends_the_calls_of_other_tasks(proxy: Proxy) -> None:
    client = AsyncClient(proxy.path)
    await client.save(A_JOB)
    proxy.loses_replies.set()
    call = asyncio.ensure_future(client.record_execution("nightly", 1, 1))
    await asyncio.to_thread(proxy.lost.wait, scaled(10))

    await client.close()

    with pytest.raises(DaemonUnavailable, match="the client was closed by another task"):
        await call


async def test_closing_a_client_ends_the_calls_that_wait_for_a_slot(proxy: Proxy) -> None:
    client = AsyncClient(proxy.path, timeout=FAST * 10)
    await client.save(A_JOB)
    proxy.loses_replies.set()
    calls = [asyncio.create_task(client.load("nightly")) for _ in range(4 * SLOTS)]
    await asyncio.to_thread(proxy.lost.wait, scaled(10))

    await client.close()

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(one) for one in outcomes} == {"the client was closed by another task"}


async def test_a_closed_client_leaves_no_deadline_behind(daemon: DaemonProcess) -> None:
    client = AsyncClient(daemon.socket, timeout=scaled(3600))
    assert await client.load("nightly") is None
    link = weakref.ref(client._link)

    await client.close()

    await asyncio.sleep(0)
    gc.collect()
    assert link() is None


async def test_cancelling_a_call_leaves_the_client_usable(daemon: DaemonProcess) -> None:
    async with AsyncClient(daemon.socket) as client:
        await client.save(A_JOB)
        calls = [
            asyncio.ensure_future(client.record_execution("nightly", 1, n)) for n in range(100)
        ]
        await asyncio.sleep(0)

        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        assert await client.record_execution("nightly", 2, 1) is not None
        assert len(await client.get_execution_history("nightly", 2)) == 1


def test_a_client_may_be_used_on_one_loop_after_another(daemon: DaemonProcess) -> None:
    client = AsyncClient(daemon.socket)

    async def use() -> int:
        try:
            return await client.save(A_JOB)
        finally:
            await client.close()

    assert asyncio.run(use()) == 1
    assert asyncio.run(use()) == 2


def test_threads_share_one_connection(proxy: Proxy) -> None:
    client = Client(proxy.path)
    client.save(A_JOB)
    ids: list[int | None] = []

    def record(sheet_num: int) -> None:
        ids.extend(client.record_execution("nightly", sheet_num, n) for n in range(1, 26))

    threads = [threading.Thread(target=record, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(ids)) == 8 * 25
    assert proxy.connections == 1
    client.close()


def test_closing_a_client_ends_the_calls_of_other_threads(proxy: Proxy) -> None:
    client = Client(proxy.path)
    client.save(A_JOB)
    errors: list[BaseException] = []

    def record() -> None:
        try:
            client.record_execution("nightly", 1, 1)
        except DaemonUnavailable as error:
            errors.append(error)

    proxy.loses_replies.set()
    thread = threading.Thread(target=record)
    thread.start()
    wait_until(proxy.lost.is_set)
    client.close()
    thread.join(scaled(20))

    assert [str(error) for error in errors] == ["the client was closed by another thread"]


def in_a_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child; gives its exit status: 0 when it returned True."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() is True else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_connects_anew_and_leaves_the_parents_connection_alone(
    proxy: Proxy,
) -> None:
    client = Client(proxy.path)
    client.save(A_JOB)

    status = in_a_child(lambda: client.record_execution("nightly", 1, 1, "child") == 1)

    assert status == 0
    assert client.record_execution("nightly", 1, 2, "parent") == 2
    assert proxy.connections == 2
    client.close()


def test_a_child_forked_while_other_threads_call_is_not_stuck(daemon: DaemonProcess) -> None:
    client = Client(daemon.socket)
    client.save(A_JOB)
    done = threading.Event()

    def record() -> None:
        while not done.is_set():
            client.record_execution("nightly", 1, 1)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    statuses = [in_a_child(lambda: client.load("nightly") is not None) for _ in range(5)]
    done.set()
    for thread in threads:
        thread.join()

    assert statuses == [0] * 5
    client.close()


def test_an_asynchronous_client_works_in_a_forked_child(daemon: DaemonProcess) -> None:
    client = AsyncClient(daemon.socket)

    async def use() -> bool:
        return await client.load("nightly") is not None

    async def parent() -> tuple[bool, int]:
        await client.save(A_JOB)
        pid = os.fork()
        if pid == 0:
            os._exit(in_the_child())
        status = await asyncio.to_thread(os.waitpid, pid, 0)
        found = await use()
        await client.close()
        return found, os.waitstatus_to_exitcode(status[1])

    def in_the_child() -> int:
        asyncio._set_running_loop(None)  # as after a fork outside of the loop
        return 0 if asyncio.run(use()) else 1

    assert asyncio.run(parent()) == (True, 0)


async def test_a_timeout_may_be_as_long_as_a_lifetime(
    daemon: DaemonProcess, new_client: Any
) -> None:
    client = new_client(daemon.socket, timeout=100 * 365 * 24 * 3600.0)

    assert await client.get_next_sheet("nightly") == 1

    await client.close()
