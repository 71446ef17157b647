"""Names and logs that are there already are put on disk. That this helps is what
`tests.faults.test_power_cut` shows."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeepd.durable import make_directory, write_again
from jobkeepd.store.connection import make_durable, open_for_writing

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


def test_file_that_is_written_again_holds_the_same(tmp_path: Path) -> None:
    file = tmp_path / "file"
    data = os.urandom(3_000_001)
    file.write_bytes(data)

    write_again(file)

    assert file.read_bytes() == data


def test_log_is_not_touched_while_another_program_may_write_to_it(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with (
        closing(open_for_writing(database, "full", 1_000_000)) as connection,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        connection.execute("PRAGMA busy_timeout = 0")
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StorageError, match="cannot be put on disk: database is locked"):
            make_durable(connection, database)

        other.execute("ROLLBACK")
        make_durable(connection, database)
