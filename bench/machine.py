"""What the figures of a run were taken on.

What lives here: the description that goes with every result. What may not: measuring anything but
the disk.
"""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from bench import postgres_server, redis_server
from bench.yardsticks import fdatasync

PACKAGES = ("jobkeep", "msgspec", "uvloop", "aiosqlite", "redis", "asyncpg")


class Machine(Struct, frozen=True):
    """A machine and what runs on it. `fdatasync_p50` is in seconds, `load` is the load average
    before the run. A server that is not installed is not in `servers`."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    file_system: str
    fdatasync_p50: float
    load: float
    python: str
    sqlite: str
    packages: dict[str, str]
    servers: dict[str, str]


def describe(directory: Path) -> Machine:
    """This machine, with the file system that `directory` is on."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        file_system=_file_system(directory.resolve()),
        fdatasync_p50=fdatasync(directory),
        load=os.getloadavg()[0],
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=sqlite3.sqlite_version,
        packages={name: version(name) for name in PACKAGES},
        servers={
            name: server.version()
            for name, server in (("redis", redis_server), ("postgres", postgres_server))
            if server.lacks(directory) is None
        },
    )


def text(machine: Machine) -> list[str]:
    """A machine for people, in a few lines."""
    packages = ", ".join(f"{name} {one}" for name, one in machine.packages.items())
    return [
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.1f} GiB, "
        f"{machine.kernel}, {machine.file_system} (fdatasync {machine.fdatasync_p50 * 1e6:.0f} µs);"
        f" load {machine.load:.2f} at the start",
        f"{machine.python}, SQLite {machine.sqlite}, {packages}",
        *machine.servers.values(),
    ]


def _cpu_model() -> str:
    """The first `model name` of /proc/cpuinfo, which not every architecture has."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The type of the mount that holds `directory`: the one with the longest path (proc(5))."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mounted, found, *_ = line.split()
        if directory.is_relative_to(mounted) and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind
