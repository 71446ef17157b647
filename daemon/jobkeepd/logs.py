"""How log lines look, and where they go.

What lives here: the formats of `--log-format`, and setting `logging` up. What may not: which lines
there are. A quiet daemon is quiet: one line at the start, one at the stop, and one for each thing
an operator has to know. With the level debug, there is one for each request as well.

A line may have fields beside its text, `job` or `client_pid` for instance; `journal` has the list.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from jobkeepd.journal import JOURNAL_SOCKET, JournalHandler, fields_of, is_journal, priority_of
from jobkeepd.settings import Settings


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")


class JsonFormatter(logging.Formatter):
    """A line for programs: one JSON object, with the fields beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class PriorityFormatter(logging.Formatter):
    """A line with the priority in front that journald understands (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of the record, each with its priority."""
        priority = priority_of(record.levelno)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def start_logging(settings: Settings, environment: Mapping[str, str]) -> None:
    """Send log lines where the settings say, in the format they say."""
    logging.basicConfig(
        level=settings.log_level.upper(), handlers=[_handler(settings.log_format, environment)]
    )
    logging.getLogger("aiosqlite").setLevel(logging.INFO)  # it has a line for each statement


def set_log_level(settings: Settings) -> None:
    """Log lines from the level on that the settings say now."""
    logging.getLogger().setLevel(settings.log_level.upper())


def is_service(environment: Mapping[str, str]) -> bool:
    """Whether what is written to standard error goes to the journal."""
    return is_journal(sys.stderr.fileno(), environment.get("JOURNAL_STREAM"))


def _handler(wanted: str, environment: Mapping[str, str]) -> logging.Handler:
    to_journal = is_service(environment)
    if wanted in {"auto", "journal"} and to_journal and JOURNAL_SOCKET.exists():
        return JournalHandler()
    formatters: dict[str, type[logging.Formatter]] = {
        "auto": PriorityFormatter if to_journal else TextFormatter,
        "text": TextFormatter,
        "json": JsonFormatter,
        "journal": PriorityFormatter,
    }
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatters[wanted]())
    return handler
