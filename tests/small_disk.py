"""A file system of a few megabytes, most of them taken, for a daemon alone.

What lives here: putting a daemon's database there, and making room. What may not: assertions.
"""

from __future__ import annotations

from pathlib import Path

from tests.daemon_process import DaemonProcess

_MOUNT = (
    'mount -t tmpfs -o size=3m tmpfs "$0" && head -c 1500000 /dev/zero > "$0/filler" && exec "$@"'
)


def put_on_small_disk(daemon: DaemonProcess) -> Path:
    """Have a daemon that is not started yet keep its database there; gives the directory, which
    others see empty."""
    disk = daemon.database.parent / "disk"
    disk.mkdir()
    daemon.database = disk / "state.db"
    daemon.wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", _MOUNT, str(disk)]
    return disk


def make_room(daemon: DaemonProcess) -> None:
    """Take away what fills the disk of a daemon that runs."""
    # It is mounted for the daemon only; this is the way to it from outside.
    Path(f"/proc/{daemon.pid}/root{daemon.database.parent}/filler").unlink()
