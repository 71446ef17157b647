"""The protocol does no I/O, and each package imports only what it may."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import jobkeep_protocol

PACKAGE = Path(jobkeep_protocol.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ALLOWED_PACKAGES = {"msgspec", "jobkeep_protocol"}
FORBIDDEN = {"asyncio", "socket", "sqlite3", "uvloop", "threading", "subprocess", "selectors"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_protocol_module_imports_no_io(path: Path) -> None:
    imported = _imports(path)

    assert not imported & FORBIDDEN
    assert imported <= ALLOWED_PACKAGES | sys.stdlib_module_names


def test_all_modules_of_the_protocol_are_looked_at() -> None:
    assert {"states.py", "messages.py", "framing.py"} <= {path.name for path in MODULES}


def _imports(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            found.add(node.module.split(".")[0])
    return found
