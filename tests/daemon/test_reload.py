"""SIGHUP: the settings are read again, all of them or none."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.errors import LimitExceeded, PermissionDenied
from jobkeep_protocol.messages import Hello, RecordExecution, Status
from jobkeep_protocol.states import CheckpointState
from jobkeepd.daemon import Daemon
from jobkeepd.limits import Limits
from jobkeepd.settings import RELOADABLE, Settings
from tests.daemon.service_manager import Listener
from tests.daemon_process import DaemonProcess
from tests.support import wait_until, wait_until_async
from tests.users import effective_user, needs_root, public_directory
from tests.wire import Wire

STRANGER = 54_321


class Configured:
    """A daemon with a configuration file, and what it tells its service manager."""

    def __init__(self, process: DaemonProcess, listener: Listener, path: Path) -> None:
        self.process = process
        self.listener = listener
        self.path = path

    def start(self, text: str, *options: str) -> None:
        """Start it with this file, and wait until it is ready."""
        self.path.write_text(text)
        self.process.spawn(
            "--config", str(self.path), *options, environment=self.listener.environment
        )
        self.listener.wait_for("READY")

    def reload(self, text: str) -> str:
        """Have it read this file; gives what it says about it."""
        self.path.write_text(text)
        times = len(self.listener.values("READY"))
        self.process.reload()
        self.listener.wait_for("READY", times + 1)
        return self.listener.values("STATUS")[-1]


@pytest.fixture
def configured() -> Iterator[Configured]:
    """A daemon that is not started yet, with a configuration file, where others can reach it."""
    with public_directory() as directory:
        listener, process = Listener(directory), DaemonProcess(directory)
        yield Configured(process, listener, directory / "jobkeepd.toml")
        process.clean_up()
        listener.close()


def test_reload_is_told_from_its_begin_to_its_end(configured: Configured) -> None:
    configured.start("")

    outcome = configured.reload("max_connections_per_uid = 7\nothers = 'read'")

    said = [name for name, _ in configured.listener.said]
    assert said == ["READY", "STATUS", "RELOADING", "MONOTONIC_USEC", "READY", "STATUS"]
    assert outcome == "the configuration was read again; changed: max_connections_per_uid, others"
    assert outcome in configured.process.log


def test_limit_of_requests_takes_effect_for_new_connections(configured: Configured) -> None:
    configured.start("")
    with Wire(configured.process.socket) as before:
        before.save(CheckpointState(job_id="job", total_sheets=1))

        configured.reload("max_text_bytes = 3")

        before.ask(RecordExecution("job", 1, 1, output="long"))
    with (
        Wire(configured.process.socket) as after,
        pytest.raises(LimitExceeded, match="3 are allowed here"),
    ):
        after.ask(RecordExecution("job", 1, 1, output="long"))


def test_limit_of_connections_takes_effect(configured: Configured) -> None:
    configured.start("")

    configured.reload("max_connections_per_uid = 1")

    with (
        Wire(configured.process.socket),
        Wire(configured.process.socket, hello=False) as second,
        pytest.raises(LimitExceeded, match="no more connections"),
    ):
        second.reply_to(Hello)


@needs_root
def test_roles_take_effect_for_new_connections(configured: Configured) -> None:
    configured.start("others = 'none'\nsocket_mode = '0666'")
    with (
        effective_user(STRANGER),
        Wire(configured.process.socket, hello=False) as wire,
        pytest.raises(PermissionDenied),
    ):
        wire.reply_to(Hello)

    configured.reload(f"others = 'none'\nsocket_mode = '0666'\nreaders = ['uid:{STRANGER}']")

    with effective_user(STRANGER), Wire(configured.process.socket) as wire:
        wire.ask(Status())


def test_level_of_log_lines_takes_effect(configured: Configured) -> None:
    configured.start("log_level = 'error'")
    with Wire(configured.process.socket) as wire:
        wire.ask(Status())
        assert configured.process.log == ""

        configured.reload("log_level = 'debug'")

        wire.ask(Status())
    wait_until(lambda: "status of no job by uid" in configured.process.log)


@pytest.mark.parametrize("name", sorted(RELOADABLE & set(Limits.__struct_fields__)))
async def test_each_limit_reaches_all_who_go_by_it(tmp_path: Path, name: str) -> None:
    before = Settings(db=str(tmp_path / "state.db"), socket=str(tmp_path / "s"))
    after = msgspec.structs.replace(before, **{name: getattr(before, name) + 1})
    daemon = Daemon(before)
    await daemon._open(None)

    daemon._take_over(after)

    server, store, connections = daemon._server, daemon._store, daemon._connections
    holders: list[Any] = [
        *(server._limits, connections._limits, daemon._inspector.limits),
        *(store._writer.limits, store._readers.limits),
    ]
    assert [getattr(one, name) for one in holders] == [getattr(after, name)] * len(holders)
    assert connections.unsent.maximum == daemon._settings.max_unsent_bytes
    assert connections.unfinished.maximum == daemon._settings.max_unfinished_bytes
    await daemon._close()


def test_what_takes_a_restart_is_named_and_stays(configured: Configured, tmp_path: Path) -> None:
    configured.start("durability = 'normal'")

    configured.reload(f"durability = 'full'\ncache_bytes = 0\n# {tmp_path}\nmax_page_rows = 5")

    assert "changed: max_page_rows" in configured.process.log
    assert "changed only by a restart: durability, cache_bytes" in configured.process.log
    with Wire(configured.process.socket) as wire:
        assert wire.ask(Status()).durability == "normal"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_connections_per_uid = 1\nothers =", "cannot be read"),
        ("max_connections_per_uid = 1\nunheard_of = 1", "unknown key 'unheard_of'"),
        ("max_connections_per_uid = 0", "expected a whole number, 1 or more"),
        ("max_connections_per_uid = 1\nadmins = ['user:nobody-at-all']", "no such user"),
    ],
)
def test_file_that_is_not_right_leaves_all_as_it_was_and_says_so(
    configured: Configured, text: str, words: str
) -> None:
    configured.start("")

    outcome = configured.reload(text)

    assert outcome.startswith("the configuration stays as it was: ")
    assert words in outcome
    assert outcome in configured.process.log
    with Wire(configured.process.socket), Wire(configured.process.socket) as second:
        second.ask(Status())


def test_flag_goes_before_the_file_when_it_is_read_again(configured: Configured) -> None:
    configured.start("", "--max-page-rows", "5")

    assert configured.reload("max_page_rows = 9").endswith("changed: nothing")


async def test_reload_before_it_is_ready_waits_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    before = Settings(db=str(tmp_path / "state.db"), socket=str(tmp_path / "s"))
    daemon = Daemon(before, lambda: msgspec.structs.replace(before, max_page_rows=7))
    await daemon._open(None)

    os.kill(os.getpid(), signal.SIGHUP)
    await wait_until_async(lambda: asyncio.sleep(0, daemon._reload_is_due))

    assert listener.take() == []
    daemon._become_ready()
    assert [name for name, _ in listener.take()][:2] == ["RELOADING", "MONOTONIC_USEC"]
    assert daemon._settings.max_page_rows == 7
    await daemon._close()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    listener.close()


def test_terminal_that_goes_away_does_not_end_it(daemon: DaemonProcess) -> None:
    daemon.reload()

    wait_until(lambda: "the configuration was read again; changed: nothing" in daemon.log)

    assert daemon.is_running
