"""Where the socket is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobkeep.address import SYSTEM_SOCKET, find_socket
from tests.users import effective_user, needs_root, public_directory


@pytest.mark.parametrize("given", ["/x/y.sock", "unix:///x/y.sock", Path("/x/y.sock")])
def test_the_argument_comes_first(given: str | Path) -> None:
    assert find_socket(given, {"JOBKEEP_SOCKET": "/other.sock"}) == Path("/x/y.sock")


def test_then_the_variable(tmp_path: Path) -> None:
    environment = {"JOBKEEP_SOCKET": "unix:///named.sock", "XDG_RUNTIME_DIR": str(tmp_path)}

    assert find_socket(None, environment) == Path("/named.sock")


def test_then_the_users_own_socket_if_it_exists(tmp_path: Path) -> None:
    own = tmp_path / "jobkeep" / "jobkeep.sock"
    own.parent.mkdir()
    own.touch()

    assert find_socket(None, {"XDG_RUNTIME_DIR": str(tmp_path)}) == own


@needs_root
def test_directory_of_somebody_else_is_passed_over_as_after_su() -> None:
    with public_directory() as directory:
        private = directory / "private"
        private.mkdir(mode=0o700)
        with effective_user(12345):
            assert find_socket(None, {"XDG_RUNTIME_DIR": str(private)}) == SYSTEM_SOCKET


def test_then_the_systems_socket(tmp_path: Path) -> None:
    assert find_socket(None, {"XDG_RUNTIME_DIR": str(tmp_path)}) == SYSTEM_SOCKET
    assert find_socket(None, {}) == SYSTEM_SOCKET
