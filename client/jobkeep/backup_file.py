"""The file that a backup is written to.

What lives here: a new file that appears under its name only when it is whole and on disk. What may
not: where its content comes from.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


class BackupFile:
    """A new file, written as `<path>.partial`; used with `with`, and kept after `complete`.

    Raises FileExistsError when there is a file of this name already, and other OSErrors, which name
    it.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._refuse_existing()  # also a path without a name, which is a directory
        self._partial = self._path.with_name(self._path.name + ".partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._named_in_errors():
            self._file = os.open(self._partial, flags, 0o600)
        self.size = 0
        self._is_complete = False

    def __enter__(self) -> BackupFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)
        if not self._is_complete:
            self._partial.unlink()

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        with self._named_in_errors():
            while view:
                written = os.write(self._file, view)
                view = view[written:]
        self.size += len(data)

    def complete(self) -> None:
        """Put it on disk, then under its name."""
        with self._named_in_errors():
            os.fsync(self._file)
        self._refuse_existing()
        self._partial.rename(self._path)
        self._is_complete = True
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        """Errors are about the file that was asked for, not what it is called until then."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise

    def _refuse_existing(self) -> None:
        if os.path.lexists(self._path):
            raise FileExistsError(
                errno.EEXIST, "there is a file of this name; give another one", str(self._path)
            )
