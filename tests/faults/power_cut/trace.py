"""What a process did to its files, and what it sent: the trace of a real one, as events.

What lives here: how strace is called, and the way from its lines to events. What may not: what an
event means for the disk (that is `disk`).

Only what happens below one directory becomes an event, and what is sent on connections that were
accepted. A call that changes a file there and is not known here is an error, so that nothing is
overlooked. An event stands where its call returned, with two exceptions: a sync has one event where
it began and one where it returned, and what was sent counts from when the call began, since it may
have been read before the call returned.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from tests.support import wait_until


@dataclass(frozen=True, slots=True)
class FileMade:
    """A name was opened that is made if it is not there."""

    path: str


@dataclass(frozen=True, slots=True)
class DirectoryMade:
    """A new, empty directory."""

    path: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A name of a file or a directory is gone."""

    path: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """A name was changed, in place of another where there was one."""

    path: str
    to: str


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes of a file."""

    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    """A file was cut off, or made longer with zeros."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class SyncBegun:
    """From here on, what is written to a file or a directory is not covered by this sync."""

    path: str


@dataclass(frozen=True, slots=True)
class SyncEnded:
    """A sync returned."""

    path: str
    is_good: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """A new connection."""

    stream: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes that a peer may have from now on."""

    stream: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The traced process is gone; `how` is what strace says of it."""

    how: str


Event = (
    FileMade
    | DirectoryMade
    | Removed
    | Renamed
    | Written
    | Resized
    | SyncBegun
    | SyncEnded
    | Accepted
    | Sent
    | ProcessEnded
)


class NotModelledError(Exception):
    """The trace has something that this package cannot replay."""


# -- running ------------------------------------------------------------------------------------

_STRACE = ("strace", "-f")

LONGEST_DATA = 4 * 1024 * 1024
"""What is written or sent at once at the most."""


def tracing(output: Path, injection: str | None = None) -> list[str]:
    """What to put before a command. It stays the child of its parent, with its own exit status.

    `injection` is one of strace, such as "fdatasync:error=EIO:when=3".
    """
    command = [*_STRACE, "-D", "-y", "-xx", "-s", str(LONGEST_DATA), "-o", str(output)]
    command += ["-e", "trace=" + ",".join((*_AT_RETURN, *_SYNCS, *_SENDS, *_REFUSED))]
    if injection is not None:
        return [*command, "-e", f"inject={injection}"]  # with a filter, a signal would be ignored
    return [*command, "--seccomp-bpf"]


@cache
def why_not() -> str | None:
    """Why nothing can be traced here, None when it can."""
    try:
        subprocess.run(
            [*_STRACE, "--seccomp-bpf", "-o", "/dev/null", "true"], check=True, capture_output=True
        )
    except FileNotFoundError:
        return "strace is not installed"
    except subprocess.CalledProcessError as error:
        return f"strace may trace nothing here: {error.stderr.decode().strip()}"
    return None


def wait_until_whole(output: Path, pid: int) -> None:
    """Return when everything is in the trace of a process that has ended."""
    last = re.compile(rb"^%d +\+\+\+ .* \+\+\+\n\Z" % pid, re.MULTILINE)
    wait_until(lambda: last.search(_tail(output)))


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 200))
        return file.read()


# -- from lines to calls ------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    """One call of the system. `result` is None when it never returned."""

    name: str
    arguments: str
    result: int | None = None
    opened: str = ""
    """What strace says of the descriptor that is the result."""


_LINE = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*)|\+\+\+ (.*) \+\+\+|---.*)$")
_RETURN = re.compile(r"(.*)\) += (-?\d+|\?)(?:<([^>]*)>)?[^\\\"]*$")
_UNFINISHED = " <unfinished ...>"
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>(\(deleted\))?")


def _calls(lines: Iterable[str]) -> Iterator[tuple[_Call, bool, bool]]:
    """Each call with whether it begins and whether it ends here; the end of a process is a call
    without a name."""
    under_way: dict[str, _Call] = {}
    leader = ""
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise NotModelledError(f"a line of strace that cannot be read: {line[:200]!r}")
        thread, name, begun, resumed, rest, end = match.groups()
        leader = leader or thread
        if name is not None and begun.endswith(_UNFINISHED):
            call = under_way[thread] = _Call(name, begun.removesuffix(_UNFINISHED))
            yield call, True, False
        elif name is not None:
            yield _returned(_Call(name, ""), begun, line), True, True
        elif resumed is not None:
            yield _returned(under_way.pop(thread), rest, line), False, True
        elif end is not None and thread == leader:
            yield _Call("", end), True, True


def _returned(call: _Call, rest: str, line: str) -> _Call:
    match = _RETURN.match(rest)
    if match is None:
        raise NotModelledError(f"a call whose result cannot be read: {line[:200]!r}")
    arguments, result, opened = match.groups()
    call.arguments += arguments
    call.result = None if result == "?" else int(result)
    call.opened = opened or ""
    return call


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def _path(hexadecimal: str) -> str:
    return _bytes(hexadecimal).decode(errors="surrogateescape")


def _all_paths(call: _Call) -> list[str]:
    """Whatever is named in the arguments, as a descriptor or as a text that may be a path."""
    named = _DESCRIPTOR.findall(call.arguments) + _TEXT.findall(call.arguments)
    return [_path(text) for text, _ in named]


def _texts(call: _Call) -> list[bytes]:
    """The texts among the arguments, in order."""
    found = _TEXT.findall(call.arguments)
    if any(cut for _, cut in found):
        raise NotModelledError(f"{call.name} of more than {LONGEST_DATA} bytes at once")
    return [_bytes(text) for text, _ in found]


def _numbers(call: _Call) -> list[int]:
    """The last arguments, as far as they are plain numbers."""
    numbers: list[int] = []
    for argument in reversed(call.arguments.split(", ")):
        if not argument.isdigit():
            break
        numbers.insert(0, int(argument))
    return numbers


# -- from calls to events -----------------------------------------------------------------------


PASSING = ("-shm", ".lock")
"""How the names of files end that mean nothing to the next process: they are left out."""


def read_trace(output: Path, root: Path) -> list[Event]:
    """What a process did below `root`, and what it sent, in order. Paths are relative to `root`."""
    with output.open(encoding="ascii") as lines:
        calls = list(_calls(lines))  # all of them first: what was sent is known at the return
    reader = _Reader(root)
    return [event for call, begins, ends in calls for event in reader.events(call, begins, ends)]


class _Reader:
    """Makes events of calls."""

    def __init__(self, root: Path) -> None:
        self._root = PurePosixPath(root.resolve())
        self._streams: set[str] = set()

    def events(self, call: _Call, begins: bool, ends: bool) -> Iterator[Event]:
        """What this call means, where it begins and where it ends."""
        if not call.name:
            yield ProcessEnded(call.arguments)
        elif call.name in _SYNCS:
            yield from self._sync(call, begins, ends)
        elif call.name in _SENDS and self._descriptor(call) is None:
            yield from self._send(call) if begins else ()
        elif ends and (call.result is None or call.result >= 0):
            yield from self._change(call)

    def _sync(self, call: _Call, begins: bool, ends: bool) -> Iterator[Event]:
        path = self._descriptor(call)
        if path is None:
            return
        if begins:
            yield SyncBegun(path)
        if ends and call.result is not None:
            yield SyncEnded(path, call.result == 0)

    def _send(self, call: _Call) -> Iterator[Event]:
        match = _DESCRIPTOR.match(call.arguments)
        stream = "" if match is None else match[1]
        if stream in self._streams and call.result is not None and call.result > 0:
            yield Sent(stream, b"".join(_texts(call))[: call.result])

    def _change(self, call: _Call) -> Iterator[Event]:
        if call.name in _AT_RETURN and call.result is not None:
            yield from _AT_RETURN[call.name](self, call)
        elif any(self._below(path) for path in _all_paths(call)):
            why = "did not return" if call.result is None else "is not known"
            raise NotModelledError(f"{call.name} {why}: {call.arguments[:200]}")

    def _below(self, path: str) -> str | None:
        """The path below the root, None when it is elsewhere or is no file that lasts."""
        absolute = PurePosixPath(path)
        if not absolute.is_relative_to(self._root) or path.endswith(PASSING):
            return None
        return str(absolute.relative_to(self._root))

    def _descriptor(self, call: _Call) -> str | None:
        """The path of the first argument, a descriptor."""
        match = _DESCRIPTOR.match(call.arguments)
        path = match and self._below(_path(match[1]))
        if path is not None and match is not None and match[2]:
            raise NotModelledError(f"{call.name} of {path}, which has been removed")
        return path

    def _paths(self, call: _Call) -> list[str | None]:
        """The paths among the arguments, each below the directory that comes before it."""
        bases = [_path(text) for text, _ in _DESCRIPTOR.findall(call.arguments)]
        names = [_path(text) for text, _ in _TEXT.findall(call.arguments)]
        if not bases:
            if not all(name.startswith("/") for name in names):
                raise NotModelledError(f"{call.name} of {names}: it is not known where that is")
            bases = ["/"] * len(names)
        return [
            self._below(str(PurePosixPath(base, name)))
            for base, name in zip(bases, names, strict=True)
        ]

    def accept(self, call: _Call) -> Iterator[Event]:
        self._streams.add(call.opened)
        yield Accepted(call.opened)

    def open(self, call: _Call) -> Iterator[Event]:
        (path,) = self._paths(call)
        if path is not None and "O_CREAT" in call.arguments:
            yield FileMade(path)
        if path is not None and "O_TRUNC" in call.arguments:
            yield Resized(path, 0)

    def mkdir(self, call: _Call) -> Iterator[Event]:
        (path,) = self._paths(call)
        if path is not None:
            yield DirectoryMade(path)

    def unlink(self, call: _Call) -> Iterator[Event]:
        (path,) = self._paths(call)
        if path is not None:
            yield Removed(path)

    def rename(self, call: _Call) -> Iterator[Event]:
        path, to = self._paths(call)
        if (path is None) != (to is None):
            raise NotModelledError(f"{path or to} was moved from or to elsewhere")
        if path is not None and to is not None:
            yield Renamed(path, to)

    def pwrite(self, call: _Call) -> Iterator[Event]:
        path = self._descriptor(call)
        if path is not None:
            (data,), (_, offset) = _texts(call), _numbers(call)
            yield Written(path, offset, data[: call.result])

    def ftruncate(self, call: _Call) -> Iterator[Event]:
        path = self._descriptor(call)
        if path is not None:
            (size,) = _numbers(call)
            yield Resized(path, size)


_SYNCS = ("fsync", "fdatasync")
_SENDS = ("write", "writev", "sendto", "sendmsg")
_AT_RETURN: dict[str, Callable[[_Reader, _Call], Iterator[Event]]] = {
    "accept": _Reader.accept,
    "accept4": _Reader.accept,
    "openat": _Reader.open,
    "mkdir": _Reader.mkdir,
    "mkdirat": _Reader.mkdir,
    "unlink": _Reader.unlink,
    "unlinkat": _Reader.unlink,
    "rmdir": _Reader.unlink,
    "rename": _Reader.rename,
    "renameat": _Reader.rename,
    "renameat2": _Reader.rename,
    "pwrite64": _Reader.pwrite,
    "ftruncate": _Reader.ftruncate,
}
_REFUSED = (
    *("creat", "truncate", "fallocate", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("splice", "sync_file_range", "link", "linkat", "symlink", "symlinkat"),
)
"""Calls that change files, and that nobody who was traced has made so far."""
