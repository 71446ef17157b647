"""The `jobkeepd` command: arguments in, log lines and an exit status out.

What lives here: log formats, exit statuses and starting the loop. What may not: the daemon's life
(that is `daemon`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import NoReturn

from jobkeep_protocol.errors import InvalidRequest, JobkeepError
from jobkeepd import failpoints
from jobkeepd.settings import Settings, read_settings, wants_check

EX_USAGE = 2
EX_IOERR = 74
EX_TEMPFAIL = 75


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")


class JsonFormatter(logging.Formatter):
    """A line for programs: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class JournalFormatter(logging.Formatter):
    """A line with the priority in front that journald understands (sd-daemon(3))."""

    _PRIORITIES = (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    )

    def format(self, record: logging.LogRecord) -> str:
        """The lines of the record, each with its priority."""
        priority = next((p for level, p in self._PRIORITIES if record.levelno >= level), 7)
        lines = super().format(record).splitlines()
        return "\n".join(f"<{priority}>{line}" for line in lines)


def main() -> NoReturn:
    """Run the daemon in the foreground and exit with its status."""
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        _start_logging(settings)
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    except InvalidRequest as error:
        _fail(EX_USAGE, str(error))
    if wants_check(sys.argv[1:]):
        _check(settings)
    try:
        import uvloop

        from jobkeepd.daemon import run
    except ImportError as error:
        _fail(1, f"{error.name} is missing; install it with `pip install 'jobkeep[daemon]'`")
    try:
        uvloop.run(run(settings))
    except JobkeepError as error:
        _end(error)
    sys.exit(0)


def _check(settings: Settings) -> NoReturn:
    from jobkeepd.store.examine import examine

    sys.exit(0 if examine(settings.database, print) else 1)


def _end(error: JobkeepError) -> NoReturn:
    from jobkeepd.server import SocketInUse
    from jobkeepd.store.failures import DatabaseFailed
    from jobkeepd.store.lock import DatabaseInUse

    if isinstance(error, DatabaseFailed):
        sys.exit(EX_IOERR)  # it was logged at the moment it happened
    _fail(EX_TEMPFAIL if isinstance(error, DatabaseInUse | SocketInUse) else 1, str(error))


def _start_logging(settings: Settings) -> None:
    formatters: dict[str, type[logging.Formatter]] = {
        "text": TextFormatter,
        "json": JsonFormatter,
        "journal": JournalFormatter,
    }
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatters[settings.log_format]())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


def _fail(status: int, message: str) -> NoReturn:
    print(f"jobkeepd: {message}", file=sys.stderr)
    sys.exit(status)
