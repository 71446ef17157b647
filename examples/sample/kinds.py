"""What the sample runs: kinds of checks, and the items that each is run on.

What lives here: which command, on which files or modules of the standard library, with which
limits. What may not: running anything, and judging what came out.

Commands run in a directory where `lib` is the standard library and `measure.py` the program of
the demo, so that they read the same on every machine. What stands first in a list of items is
taken in the smallest sample too; the rest comes in an order that is the same each time and mixes
all folders.
"""

from __future__ import annotations

import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

LIBRARY = Path(sysconfig.get_path("stdlib"))
PYTHON = Path(sys.executable).name
SLOW_FACTOR = 40
"""How much longer the second attempt may take."""

LARGE_BYTES = 20_000
"""Files above this are not tokenized: a sheet of theirs is skipped."""

_OPENS_A_WINDOW = {"antigravity", "idlelib", "turtledemo"}
"""Modules that start a browser or an editor when they are imported."""

_QUIET_DOCTESTS = """
    difflib heapq textwrap statistics _pydecimal fractions pickletools pickle typing enum doctest
    ipaddress datetime secrets _threading_local code hashlib zipfile
"""
_QUIET_TESTS = """
    textwrap string bisect statistics heapq colorsys fractions shlex fnmatch graphlib calendar html
    htmlparser difflib struct base64 binascii copy enum dataclasses contextlib keyword operator
    pprint reprlib stat types urlparse zlib sort set dict list tuple range slice int float
    complex bool random re ast typing collections itertools functools abc
    argparse configparser csv decimal deque defaultdict gettext glob
"""
"""Tests of the standard library that stay within their process: no network, no terminal."""

_IMPORT = (
    "import sys, importlib; importlib.import_module(sys.argv[1]); "
    "print(len(sys.modules), 'modules are loaded')"
)


class Kind(Struct, frozen=True):
    """One kind of check. `command` has `{}` where the item goes."""

    name: str
    description: str
    command: tuple[str, ...]
    items: Callable[[], list[str]]
    sheets: int
    """How many items a sample of size 1 has at most."""

    limit_seconds: float
    """For the first attempt; the second has `SLOW_FACTOR` times as much."""

    attempts: int = 2

    def command_of(self, item: str) -> list[str]:
        """The command for one item."""
        return [item if part == "{}" else part for part in self.command]

    def limit(self, attempt: int) -> float:
        """Seconds that an attempt may take."""
        return self.limit_seconds * (1 if attempt == 1 else SLOW_FACTOR)


def _mixed(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (zlib.crc32(name.encode()), name))


def _files(*patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in LIBRARY.rglob(pattern)}
    return [path for path in found if "site-packages" not in path.parts and path.is_file()]


def _name(path: Path) -> str:
    return f"lib/{path.relative_to(LIBRARY).as_posix()}"


def _sources() -> list[str]:
    return _mixed(_name(path) for path in _files("*.py") if path.stat().st_size)


def _largest_first() -> list[str]:
    sizes = {_name(path): path.stat().st_size for path in _files("*.py")}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:2]
    return largest + [name for name in _sources() if name not in largest]


def _texts() -> list[str]:
    """Files of Python, and some that are none."""
    others = _mixed(_name(path) for path in _files("*.txt", "*.css", "*.html", "*.def"))
    return others[:2] + _mixed([*others[2:40], *_sources()])


def _modules() -> list[str]:
    names = set(sys.stdlib_module_names) - _OPENS_A_WINDOW
    elsewhere = sorted(names & {"winreg", "_winapi", "msvcrt"})  # of Windows: not here
    return elsewhere + _mixed(names - set(elsewhere))


def _with_doctests() -> list[str]:
    wanted = (LIBRARY / f"{name}.py" for name in _QUIET_DOCTESTS.split())
    return [_name(path) for path in wanted if path.exists() and b">>> " in path.read_bytes()]


def _tests() -> list[str]:
    names = [f"test_{name}" for name in _QUIET_TESTS.split()]
    return [f"test.{name}" for name in names if (LIBRARY / "test" / f"{name}.py").exists()]


COMPILE = Kind(
    "compile",
    "compile every file, with warnings as errors",
    (PYTHON, "-S", "-W", "error", "-m", "py_compile", "{}"),
    _texts,
    sheets=450,
    limit_seconds=0.15,
)
IMPORT = Kind(
    "import",
    "import every module, with warnings as errors",
    (PYTHON, "-S", "-W", "error", "-c", _IMPORT, "{}"),
    _modules,
    sheets=300,
    limit_seconds=0.15,
)
MEASURE = Kind(
    "measure",
    "count what is in a file, and compress it",
    (PYTHON, "-S", "measure.py", "{}"),
    _largest_first,
    sheets=400,
    limit_seconds=0.12,
)
DOCTEST = Kind(
    "doctest",
    "run the examples in the docstrings of a module",
    (PYTHON, "-S", "-m", "doctest", "{}"),
    _with_doctests,
    sheets=100,
    limit_seconds=0.25,
)
UNITTEST = Kind(
    "unittest",
    "run the tests of a module",
    (PYTHON, "-S", "-m", "unittest", "{}"),
    _tests,
    sheets=80,
    limit_seconds=0.4,
)
TOKENIZE = Kind(
    "tokenize",
    "list the tokens of a file, unless it is large",
    (PYTHON, "-S", "-m", "tokenize", "{}"),
    _sources,
    sheets=150,
    limit_seconds=1.0,
)
DISASSEMBLE = Kind(
    "disassemble",
    "show the byte code of a file",
    (PYTHON, "-S", "-m", "dis", "{}"),
    _sources,
    sheets=80,
    limit_seconds=1.0,
)
PARSE = Kind(
    "parse",
    "show the syntax tree of a file",
    (PYTHON, "-S", "-m", "ast", "{}"),
    _sources,
    sheets=80,
    limit_seconds=1.0,
)
SURVEY = Kind(
    "survey",
    "measure all files, without haste",
    (PYTHON, "-S", "measure.py", "{}"),
    _sources,
    sheets=2_000,
    limit_seconds=10.0,
    attempts=1,
)

KINDS = {
    kind.name: kind
    for kind in (
        *(COMPILE, IMPORT, MEASURE, DOCTEST, UNITTEST),
        *(TOKENIZE, DISASSEMBLE, PARSE, SURVEY),
    )
}
