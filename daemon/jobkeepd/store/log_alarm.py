"""Warning of a write-ahead log that grows.

What lives here: the alarm. What may not: checkpoints (that is `committer`).

SQLite writes the log from its beginning again once all of it is in the database and nobody reads it
any more (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files). So what makes it
grow is a program that keeps a transaction open, or writes that are very large.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)

FRAME_HEADER_BYTES = 24


class LogAlarm:
    """Warns once whenever the log gets longer than `max_bytes`."""

    def __init__(self, database: Path, page_bytes: int, max_bytes: int) -> None:
        self._database = database
        self._frame_bytes = page_bytes + FRAME_HEADER_BYTES
        self._max_bytes = max_bytes
        self._is_long = False

    def look(self, pages: int) -> None:
        """The log has so many pages now."""
        was_long, self._is_long = self._is_long, pages * self._frame_bytes > self._max_bytes
        if self._is_long and not was_long:
            log.warning(
                "the write-ahead log of %s has grown to %d bytes: a program that reads the "
                "database keeps it from being emptied (`fuser -v %s` names it), or very much was "
                "written at once",
                self._database,
                pages * self._frame_bytes,
                self._database,
            )
        elif was_long and not self._is_long:
            log.info("the write-ahead log of %s is short again", self._database)
