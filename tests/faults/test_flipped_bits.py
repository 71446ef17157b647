"""A bit that turned over in the database: refused, found by `--check`, or seen in its cell alone.

SQLite has no checksums: a bit of a text may turn over and nobody can tell. But nothing else may be
wrong then, the daemon may not fall over it, and it may not write anything because of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.examine import examine
from jobkeepd.store.guard import admit
from tests.faults.databases import copy_files, flip
from tests.support import new_uvloop, scaled

JOBS = ("job", "a/😀", "claimed")


OF_JOBS = ("jobs", "sheets", "execution_history", "failures", "claims", "workers", "job_counts")
Cells = dict[tuple[Any, ...], Any]


async def _read_all(database: Path) -> tuple[Cells, Cells]:
    """All that a database serves: what it keeps, cell by cell, and what is made from that. An error
    stands for what it is the answer to."""
    kept: Cells = {}
    made: Cells = {}
    async with SQLiteStateBackend(database) as backend:
        for job in JOBS:
            try:
                state = await backend.load(job)
                kept.update(_cells(("job", job), msgspec.to_builtins(state)))
            except JobkeepError as error:
                kept["job", job] = error
            try:
                for record in await backend.get_execution_history(job):
                    kept.update(_cells(("record", record["id"]), record))
            except JobkeepError as error:
                kept["records", job] = error
            made["count", job] = await backend.get_execution_history_count(job)
            made["statistics", job] = await backend.get_job_statistics(job)
            made["next", job] = await backend.get_next_sheet(job)
    return kept, made


def _cells(place: tuple[Any, ...], values: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if values is None:
        yield place, None
        return
    for name, value in values.items():
        if name == "sheets":
            for number, sheet in value.items():
                yield from _cells((*place, number), sheet)
        else:
            yield (*place, name), value


def _read(database: Path) -> tuple[Cells, Cells]:
    with asyncio.Runner(loop_factory=new_uvloop) as runner:
        return runner.run(_read_all(database))


def _rows(database: Path) -> dict[str, list[Any]]:
    """All that is kept of jobs, as bytes. A reply that looks old, for its time has lost its first
    digit, is rightly forgotten; and an index of the texts that is not as declared made anew."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        return {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608 # a name of ours
            for name in OF_JOBS
        }


def _is_refused(database: Path) -> bool:
    try:
        admit(database)
    except StorageError:
        return True
    return False


def _what_becomes_of(database: Path, truth: tuple[Cells, Cells]) -> str:
    """How a bit that has turned over shows; holds the daemon to what it may do."""
    said: list[str] = []
    is_well = examine(database, said.append)
    if _is_refused(database):
        assert not is_well, "what the daemon finds, `--check` does too"
        return "refused at the start"
    before = _rows(database)
    try:
        kept, made = _read(database)
    except StorageError:
        assert not is_well, "what keeps the daemon from opening it, `--check` finds too"
        return "refused at the start"
    assert _rows(database) == before, "nothing is written because of it"
    errors = [place for place, value in kept.items() if isinstance(value, JobkeepError)]
    wrong = {
        place
        for place in kept.keys() | truth[0].keys()
        if kept.get(place) != truth[0].get(place)
        and not any(place[: len(one)] == one for one in errors)
        and not (errors and place[0] == "record")
    }
    assert len(wrong) <= 1, (wrong, said)
    if errors:
        assert not is_well, "a row that cannot be read is found"
        return "told when it is read"
    if wrong:
        return "served, and found by --check" if not is_well else "served in its cell"
    if made != truth[1]:
        assert not is_well, "what is counted is counted again"
        return "a wrong count, found by --check"
    return "served right" if is_well else "served right, and found by --check"


@pytest.mark.parametrize("count", [100, pytest.param(4_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(scaled(3_600))
def test_bit_that_turned_over_is_refused_or_found_or_spoils_its_own_cell_alone(
    filled_once: Path, tmp_path: Path, count: int
) -> None:
    truth = _read(copy_files(filled_once, tmp_path / "truth"))
    data = filled_once.read_bytes()
    used = [place * 8 + bit for place, byte in enumerate(data) if byte for bit in range(8)]

    found: Counter[str] = Counter()
    for place in used[:: max(1, len(used) // count)]:
        flipped = copy_files(filled_once, tmp_path / "flipped")
        flip(flipped, place)
        found[_what_becomes_of(flipped, truth)] += 1

    print(f"{sum(found.values())} of {len(used)} bits: {found.most_common()}")
    assert found["refused at the start"] > count / 10
    assert found["served in its cell"] > 0, "which is why backups are needed"
