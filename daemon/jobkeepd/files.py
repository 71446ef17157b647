"""Which file stands under a name, whether it may be opened, and whether there is room for more.

What lives here: telling whether a path still leads to the file it led to before, whether it leads
to a file of this user, how large it is, and whether it could grow. What may not: opening or
changing files of ours.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from jobkeep_protocol.errors import StorageError


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


def size_of(path: Path) -> int:
    """The size of the file at this path, 0 when there is none. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


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


def refuse_unless_plain(path: Path, uid: int) -> None:
    """Refuse what is there and is no regular file of this user.

    Opening a FIFO or a device may wait for ever or do things. Beside a link, the log would be
    looked for in another place than SQLite does. And what one user writes, root for instance, the
    one to whom the file belongs may not be able to read. Raises StorageError, and OSError.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise StorageError(
            f"{path} is a symbolic link to {path.readlink()}; give the path of the file itself "
            "with --db"
        )
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(
            f"{path} is {_kind(found.st_mode)}, and has to be a regular file; give another path "
            "with --db"
        )
    if found.st_uid != uid:
        raise StorageError(
            f"{path} belongs to {_user(found.st_uid)}, and this process runs as {_user(uid)}: run "
            f"it as {_user(found.st_uid)}, or give that file to this user with chown"
        )


def _kind(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "not a file")


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
