"""Directories are made so that they outlast a power cut. That this helps is what
`tests.faults.test_power_cut` shows."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkeepd.durable import make_directory

NOBODY = 65534


def test_directory_is_made_with_its_mode_below_those_that_were_missing(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b" / "c", mode=0o757)

    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o757
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "a" / "b").stat().st_mode


def test_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)

    make_directory(tmp_path, mode=0o700)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_directory_is_not_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileExistsError, match=r"file'$"):
            make_directory(directory)


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that others may go through and not list, with one in it that they own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        own = Path(directory, "own")
        own.mkdir()
        os.chown(own, NOBODY, NOBODY)
        yield own


def test_directory_that_another_user_made_is_taken_as_it_is(closed: Path) -> None:
    os.seteuid(NOBODY)
    try:
        make_directory(closed)
        make_directory(closed / "below")
        with pytest.raises(PermissionError):
            make_directory(closed.parent / "beside")
    finally:
        os.seteuid(0)

    assert (closed / "below").is_dir()
