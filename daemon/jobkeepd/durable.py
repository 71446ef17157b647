"""What must outlast a power cut beside what SQLite syncs by itself: names, and what others wrote.

What lives here: making directories, and putting on disk what is there already. What may not:
SQLite.

A name is on disk when its directory has been synced: syncing the file is not enough (fsync(2)).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 1024 * 1024


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


def sync_file(file: Path) -> None:
    """Put on disk what a file holds. Raises OSError."""
    with _opened(file, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def write_again(file: Path) -> None:
    """Put on disk what a file holds for those who read it, whoever wrote it. Raises OSError.

    A sync alone would do if every sync before it had gone well. After one that failed, the kernel
    takes what it could not write for written, and a later sync passes over it
    (https://wiki.postgresql.org/wiki/Fsync_Errors). So every byte is written again, as it is.
    Nobody else may write to the file meanwhile.
    """
    with _opened(file, os.O_RDWR) as descriptor:
        offset = 0
        while data := os.pread(descriptor, _CHUNK_BYTES, offset):
            offset += os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
