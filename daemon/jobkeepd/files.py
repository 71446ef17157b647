"""Which file stands under a name, and whether there is room for more.

What lives here: telling whether a path still leads to the file it led to before, and whether a file
could grow. What may not: opening or changing files of ours.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import NamedTuple


class FileIdentity(NamedTuple):
    """The device and inode of a file: what it is, whatever it is called."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity | None:
        """The file at this path now, None when there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116 # on the way of every commit: Path.stat is slower
        except FileNotFoundError:
            return None
        return cls(found.st_dev, found.st_ino)


ROOM_BYTES = 64 * 1024

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The disk is full, a quota is used up, the file may not be as large (RLIMIT_FSIZE)."""


def has_room(*files: Path) -> bool:
    """Whether the largest of these files, which are in one directory, could grow now.

    Tries it on one without a name. What fails for another reason is no matter of room.
    """
    try:
        largest = max(file.stat().st_size for file in files)
        with tempfile.TemporaryFile(dir=files[0].parent) as scratch:
            os.posix_fallocate(scratch.fileno(), largest, ROOM_BYTES)
    except OSError as error:
        return error.errno not in _NO_ROOM
    return True
