"""Which file stands under a name.

What lives here: telling whether a path still leads to the file it led to before. What may not:
opening or changing files.
"""

from __future__ import annotations

import os
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
