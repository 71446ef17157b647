"""Log lines for the journal of systemd, with fields that `journalctl` can filter by.

What lives here: a logging handler that speaks the journal's own protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). What may not: which lines there are.

The fields of a line, beside its MESSAGE and PRIORITY: what a caller gives as `extra` under one of
the names in FIELDS, as JOBKEEP_JOB and so on. Without a journal the lines go to standard error,
with the priority in front (sd-daemon(3)).
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
from pathlib import Path
from typing import Any

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "jobkeepd"

FIELDS = ("job", "sheet", "client_pid", "client_uid", "operation", "duration")
"""What a log line may say beside its text: names in `extra`, which records have as attributes."""

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def priority_of(level: int) -> int:
    """The priority of syslog(3) for a level of logging."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its text."""
    values = ((name, getattr(record, name, None)) for name in FIELDS)
    return {name: value for name, value in values if value is not None}


def is_journal(descriptor: int, variable: str | None) -> bool:
    """Whether a stream is the journal's: JOURNAL_STREAM has its device and inode
    (systemd.exec(5))."""
    if not variable:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return variable == f"{found.st_dev}:{found.st_ino}"


class JournalHandler(logging.Handler):
    """Sends each record to the journal as one datagram."""

    def __init__(self, path: Path = JOURNAL_SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())  # the text alone: level and logger are fields
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; what cannot be sent is reported as `logging` reports such errors."""
        try:
            message = self.format(record)
            parts = {
                "MESSAGE": message,
                "PRIORITY": str(priority_of(record.levelno)),
                "SYSLOG_IDENTIFIER": IDENTIFIER,
                "LOGGER": record.name,
                **{f"JOBKEEP_{name.upper()}": str(one) for name, one in fields_of(record).items()},
            }
            self._send(b"".join(_encode(name, text) for name, text in parts.items()))
        except Exception:  # noqa: BLE001 # as every handler of `logging` does
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, str(self._path))
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            self._send_as_file(data)

    def _send_as_file(self, data: bytes) -> None:
        """What is too large for a datagram goes as a file in memory that nobody can change."""
        descriptor = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb") as file:  # noqa: PTH123 # a descriptor has no path
            file.write(data)
            file.flush()
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            self._socket.sendmsg([], rights, 0, str(self._path))


def _encode(name: str, text: str) -> bytes:
    """One field; one with a line break has its length before it."""
    data = text.encode(errors="backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
