"""A disk behind a page cache: what processes see, and what is there after a power cut.

What lives here: files, directories, and what becomes of their changes; see the docstring of the
package for the rules. What may not: strace, SQLite, and what a file means.

Each file has a file of its own in a place of the model's, which holds what is durable. To look at
what a cut leaves, the changes that survive it are put there, the file is linked to its name, and
afterwards all of this is undone: what a look costs depends on what is not synced, not on what is
kept.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tests.faults.power_cut.fates import Fate, Fates, all_torn, seeded
from tests.faults.power_cut.trace import (
    DirectoryMade,
    Event,
    FileMade,
    NotModelledError,
    ProcessEnded,
    Removed,
    Renamed,
    Resized,
    SyncBegun,
    SyncEnded,
    Written,
)

SECTOR_BYTES = 512
PAGE_BYTES = 4096
"""What the page cache knows as written or not, as a whole."""

GARBAGE = seeded(0).randbytes(64 * 1024)


class Write(NamedTuple):
    """Bytes of a file that are not synced."""

    number: int
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Where the next byte would be."""
        return self.offset + len(self.data)

    def units(self, size: int) -> range:
        """The sectors, or pages, that it touches."""
        return range(self.offset // size, -(-self.end // size))


class Resize(NamedTuple):
    """The size of a file, which is not synced."""

    number: int
    size: int


Change = Write | Resize


def surviving(changes: Sequence[Change], fates: Fates, chance: random.Random) -> Iterator[Change]:
    """The changes, and parts of changes, that reach the disk.

    A sector has what it held after one of the writes to it, so what survives of a write takes with
    it what was written to the same sectors before.
    """
    decided = [fates(change.number) for change in changes]
    if all(fate is Fate.KEPT for fate in decided):
        yield from changes
        return
    last_write: dict[int, int] = {}
    for change, fate in zip(changes, decided, strict=True):
        if isinstance(change, Write) and fate is not Fate.LOST:
            for sector in change.units(SECTOR_BYTES):
                if fate is Fate.KEPT or chance.random() < 0.5:
                    last_write[sector] = change.number
    for change, fate in zip(changes, decided, strict=True):
        if isinstance(change, Write):
            yield from _parts(change, last_write)
        elif fate is Fate.KEPT or (fate is Fate.TORN and chance.random() < 0.5):
            yield change


def _parts(write: Write, last_write: dict[int, int]) -> Iterator[Write]:
    """What is left of a write when a sector holds what was written to it last."""
    sectors = write.units(SECTOR_BYTES)
    runs = itertools.groupby(sectors, lambda one: last_write.get(one, -1) >= write.number)
    for is_kept, run in runs:
        if is_kept:
            kept = list(run)
            begin = max(write.offset, kept[0] * SECTOR_BYTES)
            end = min(write.end, (kept[-1] + 1) * SECTOR_BYTES)
            data = write.data[begin - write.offset : end - write.offset]
            yield Write(write.number, begin, data)


class File:
    """One file, under whatever name. `place` holds what is durable of it.

    `seen` is what processes read, and `pending` what a cut can take away.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.seen = bytearray()
        self.pending: list[Change] = []
        self._covered: int | None = None
        self._given_up: set[int] = set()
        """Pages that a failed sync left as they are on the disk, whatever processes see."""
        self._undo: list[tuple[int, bytes, int]] = []
        self._descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, write: Write) -> None:
        """A process wrote."""
        self.seen.extend(bytes(max(0, write.offset - len(self.seen))))
        self.seen[write.offset : write.end] = write.data
        pages = write.units(PAGE_BYTES)
        if self._given_up.intersection(pages):  # from now on they are to be written again, whole
            self._given_up.difference_update(pages)
            begin, end = pages.start * PAGE_BYTES, pages.stop * PAGE_BYTES
            write = Write(write.number, begin, bytes(self.seen[begin:end]))
        self.pending.append(write)

    def resize(self, resize: Resize) -> None:
        """A process set the size."""
        del self.seen[resize.size :]
        self.seen.extend(bytes(resize.size - len(self.seen)))
        self.pending.append(resize)

    def begin_sync(self) -> None:
        """What was written by now is what the sync that begins is about."""
        if self._covered is not None:
            raise NotModelledError("two syncs of one file at the same time")
        self._covered = len(self.pending)

    def forget_sync(self) -> None:
        """The process that may have begun a sync is gone."""
        self._covered = None

    def end_sync(self, is_good: bool, chance: random.Random) -> None:
        """The sync returned: what it covers is durable, or left to chance for good."""
        covered, self.pending = self.pending[: self._covered], self.pending[self._covered :]
        self._covered = None
        if is_good:
            self._put(covered, b"\0")
            return
        self._put(surviving(covered, all_torn, chance), GARBAGE)
        for change in covered:
            if isinstance(change, Write):
                self._given_up.update(change.units(PAGE_BYTES))

    def cut(self, fates: Fates, chance: random.Random) -> None:
        """Make `place` what it is after a cut, until `undo`."""
        for change in surviving(self.pending, fates, chance):
            size = os.fstat(self._descriptor).st_size
            if isinstance(change, Write):
                old = os.pread(self._descriptor, len(change.data), change.offset)
                self._undo.append((change.offset, old, size))
            else:
                old = os.pread(self._descriptor, max(0, size - change.size), change.size)
                self._undo.append((change.size, old, size))
            self._put([change], GARBAGE)

    def undo(self) -> None:
        """Make `place` what is durable again."""
        while self._undo:
            offset, old, size = self._undo.pop()
            os.pwrite(self._descriptor, old, offset)
            os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _put(self, changes: Iterable[Change], filling: bytes) -> None:
        """Make these changes to `place`; what is skipped beyond its end has `filling`."""
        size = os.fstat(self._descriptor).st_size
        for change in changes:
            if isinstance(change, Resize):
                size = change.size
                os.ftruncate(self._descriptor, size)
                continue
            if change.offset > size:
                gap = change.offset - size
                os.pwrite(self._descriptor, (filling * (gap // len(filling) + 1))[:gap], size)
            os.pwrite(self._descriptor, change.data, change.offset)
            size = max(size, change.end)


class Entry(NamedTuple):
    """A change of a directory that is not synced: what a name stands for, None for nothing."""

    number: int
    name: str
    node: File | Directory | None


class Directory:
    """Names, as processes see them and as they are durable."""

    def __init__(self) -> None:
        self.seen: dict[str, File | Directory] = {}
        self.pending: list[Entry] = []
        self._durable: dict[str, File | Directory] = {}
        self._covered: int | None = None

    def change(self, entry: Entry) -> None:
        """A process made, removed or replaced a name."""
        _enter(self.seen, entry)
        self.pending.append(entry)

    def begin_sync(self) -> None:
        """As of a file."""
        self._covered = len(self.pending)

    def forget_sync(self) -> None:
        """As of a file."""
        self._covered = None

    def end_sync(self, is_good: bool, chance: random.Random) -> None:
        """The sync returned. One that failed leaves all to be synced still: names are the file
        system's own, and it does not take them for written."""
        del chance
        if is_good:
            for entry in self.pending[: self._covered]:
                _enter(self._durable, entry)
            del self.pending[: self._covered]

    def after_cut(self, fates: Fates) -> dict[str, File | Directory]:
        """The names there are after a cut. A name is there or not: nothing of it can be torn."""
        names = dict(self._durable)
        for entry in self.pending:
            if fates(entry.number) is Fate.KEPT:
                _enter(names, entry)
        return names


def _enter(names: dict[str, File | Directory], entry: Entry) -> None:
    if entry.node is None:
        names.pop(entry.name, None)
    else:
        names[entry.name] = entry.node


class Disk:
    """The files below one directory, which is there and empty at first, and durable.

    `place` is a directory on a file system in memory. What is durable changes only when `syncs`
    does, and what a cut can take away only when `changes` or `syncs` does.
    """

    def __init__(self, place: Path, seed: int = 0) -> None:
        self.changes = 0
        self.syncs = 0
        self._root = Directory()
        self._place = place
        self._kept = place / "kept"
        self._kept.mkdir(parents=True)
        self._files: list[File] = []
        self._chance = seeded(seed)

    def apply(self, event: Event) -> None:
        """What a process did. Events of other kinds than those of files are none of the disk's."""
        match event:
            case FileMade(path):
                if self._find(path) is None:
                    self._enter(path, self._new_file())
            case DirectoryMade(path):
                self._enter(path, Directory())
            case Removed(path):
                self._enter(path, None)
            case Renamed(path, to):
                node = self._find(path)
                self._enter(path, None)
                self.changes -= 1  # both or none of it: they are one change
                self._enter(to, node)
            case Written(path, offset, data):
                self._file(path).write(Write(self._next(), offset, data))
            case Resized(path, size):
                self._file(path).resize(Resize(self._next(), size))
            case SyncBegun(path):
                self._node(path).begin_sync()
            case SyncEnded(path, is_good):
                self.syncs += 1
                self._node(path).end_sync(is_good, self._chance)
            case ProcessEnded():
                for node in self._nodes(self._root):
                    node.forget_sync()

    def apply_all(self, events: Iterable[Event]) -> None:
        """Several, in order."""
        for event in events:
            self.apply(event)

    @property
    def pending(self) -> list[int]:
        """The numbers of the changes that a cut can take away, in order."""
        nodes = [*self._nodes(self._root), *self._files]
        return sorted({change.number for node in nodes for change in node.pending})

    def files_seen(self) -> dict[str, bytes]:
        """What processes find, by path."""
        return dict(_files_of(self._root, PurePosixPath()))

    @contextmanager
    def after_cut(self, fates: Fates, chance: random.Random) -> Iterator[Path]:
        """A directory as a cut leaves it. Its files may be read, and no more than that: they are
        the model's own. What is made beside them goes away."""
        found = self._place / "found"
        try:
            self._lay_out(self._root, found, fates, chance)
            yield found
        finally:
            for file in self._files:
                file.undo()
            shutil.rmtree(found)

    def close(self) -> None:
        """Let go of all files."""
        for file in self._files:
            file.close()

    def _lay_out(self, directory: Directory, at: Path, fates: Fates, chance: random.Random) -> None:
        at.mkdir()
        for name, node in directory.after_cut(fates).items():
            if isinstance(node, Directory):
                self._lay_out(node, at / name, fates, chance)
            else:
                node.cut(fates, chance)
                os.link(node.place, at / name)

    def _next(self) -> int:
        self.changes += 1
        return self.changes

    def _new_file(self) -> File:
        file = File(self._kept / str(len(self._files)))
        self._files.append(file)
        return file

    def _enter(self, path: str, node: File | Directory | None) -> None:
        parent, name = os.path.split(path)
        directory = self._node(parent)
        if not isinstance(directory, Directory):
            raise NotModelledError(f"{parent} is no directory")
        directory.change(Entry(self._next(), name, node))

    def _find(self, path: str) -> File | Directory | None:
        node: File | Directory | None = self._root
        for name in PurePosixPath(path).parts:
            node = node.seen.get(name) if isinstance(node, Directory) else None
        return node

    def _node(self, path: str) -> File | Directory:
        node = self._find(path)
        if node is None:
            raise NotModelledError(f"{path} is not there")
        return node

    def _file(self, path: str) -> File:
        node = self._node(path)
        if not isinstance(node, File):
            raise NotModelledError(f"{path} is no file")
        return node

    def _nodes(self, directory: Directory) -> Iterator[File | Directory]:
        yield directory
        for node in directory.seen.values():
            if isinstance(node, Directory):
                yield from self._nodes(node)
            else:
                yield node


def _files_of(directory: Directory, at: PurePosixPath) -> Iterator[tuple[str, bytes]]:
    for name, node in directory.seen.items():
        if isinstance(node, Directory):
            yield from _files_of(node, at / name)
        else:
            yield str(at / name), bytes(node.seen)
