"""What must outlast a power cut beside what SQLite syncs by itself: names.

What lives here: making directories, and syncing them. What may not: SQLite.

A name is on disk when its directory has been synced: syncing the file is not enough (fsync(2)).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_directory(directory: Path, mode: int | None = None) -> None:
    """Make a directory, and those that are missing above it, if it is not there; when this returns
    its name is on disk. Raises OSError.

    A new one has this mode whatever the umask, and by default what the umask leaves. The name of
    one that is there is synced too: whoever made it may have been killed right after.
    """
    if directory.is_dir():
        with suppress(PermissionError):  # where this user may not look, somebody else made it
            sync_directory(directory.parent)
        return
    make_directory(directory.parent)
    directory.mkdir(0o777 if mode is None else mode, exist_ok=True)
    if mode is not None:
        directory.chmod(mode)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Put the names in a directory on disk. Raises OSError."""
    with _opened(directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has nothing to sync there
                raise


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
