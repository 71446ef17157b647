"""Servers start, keep what they acknowledge, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from bench import postgres_server, redis_server
from bench.places import data_directory
from bench.postgres_server import OWNER, running_postgres
from bench.redis_server import running_redis
from bench.servers import running

needs_redis = pytest.mark.usefixtures("redis_is_here")
needs_postgres = pytest.mark.usefixtures("postgres_is_here")


def processes_of(directory: Path) -> list[str]:
    """The command lines that name this directory."""
    lines = (" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(directory) in line]


def inet_connections(directory: Path) -> list[object]:
    """The TCP and UDP sockets of the processes that name this directory."""
    return [
        connection
        for process in psutil.process_iter(["cmdline"])
        if str(directory) in " ".join(process.info["cmdline"] or [])
        for connection in process.net_connections("inet")
    ]


@needs_redis
def test_redis_syncs_every_write_and_is_on_its_socket_alone(data: Path) -> None:
    async def write(socket: Path) -> dict[str, str]:
        async with Redis(unix_socket_path=str(socket), decode_responses=True) as redis:
            await redis.set("key", "acknowledged")
            found = await redis.config_get("*")
            return {str(name): str(value) for name, value in found.items()}

    with running_redis(data) as socket:
        settings = asyncio.run(write(socket))
        written = [path.read_text() for path in (data / "appendonlydir").glob("*.incr.aof")]
        assert inet_connections(data) == []
    assert "acknowledged" in "".join(written)
    assert {name: settings[name] for name in ("appendonly", "appendfsync", "save", "port")} == {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "port": "0",
    }
    assert processes_of(data) == []


@needs_postgres
def test_postgres_syncs_every_commit_and_is_on_its_socket_alone(data: Path) -> None:
    place = data / "one"
    place.mkdir()
    with running_postgres(place) as socket:
        found = {
            name: _on_postgres(socket, f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
        }
        assert inet_connections(data) == []
    assert found == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
    }
    assert processes_of(data) == []


@needs_postgres
def test_a_second_postgres_of_a_round_knows_nothing_of_the_first(data: Path) -> None:
    for name in ("one", "two"):
        (data / name).mkdir()
        with running_postgres(data / name) as socket:
            _on_postgres(socket, "CREATE TABLE only_here (id integer)")


@needs_postgres
@needs_redis
def test_an_interrupt_leaves_nothing_running(data: Path) -> None:
    place = data / "one"
    place.mkdir()

    def work() -> None:
        with running_redis(place), running_postgres(place):
            assert len(processes_of(data)) >= 2
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert processes_of(data) == []


def test_a_server_that_does_not_start_says_what_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no port'); raise SystemExit(3)"]
    with (
        pytest.raises(RuntimeError, match=r"(?s)did not get ready:\nno port"),
        running(command, tmp_path / "log", lambda: False),
    ):
        pass


def test_a_server_that_ends_badly_says_what_it_wrote(tmp_path: Path) -> None:
    program = "import signal; print('gone', flush=True); signal.pause()"
    log = tmp_path / "log"
    with (
        pytest.raises(RuntimeError, match=r"(?s)ended with status -15:\ngone"),
        running([sys.executable, "-c", program], log, lambda: "gone" in log.read_text()),
    ):
        pass


def test_a_program_that_is_not_installed_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres_server, "DEBIAN", tmp_path)
    assert redis_server.lacks(tmp_path) == "redis-server is not installed (Debian: redis-server)"
    assert postgres_server.lacks(tmp_path) == "PostgreSQL is not installed (Debian: postgresql)"


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root another user runs PostgreSQL")
@needs_postgres
def test_postgres_says_where_its_user_cannot_go(data: Path) -> None:
    closed = data / "closed"
    closed.mkdir(mode=0o700)
    reason = postgres_server.lacks(closed)
    assert reason is not None
    assert f"who cannot enter {closed}; set TMPDIR" in reason


def test_data_lies_where_tmpdir_says_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with data_directory() as directory:
        assert directory.parent == tmp_path
        assert stat.S_IMODE(directory.stat().st_mode) == 0o711
        (directory / "file").touch()
    assert list(tmp_path.iterdir()) == []


def _on_postgres(socket: Path, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(host=str(socket), user=OWNER, database="postgres")
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())
