"""Cutting the power at the points of a trace, and looking at what is left.

What lives here: which points there are, what is opened and how, and the verdict on each. What may
not: the rules of the disk (that is `disk`).

What is left is looked at as the daemon does when it starts, which may refuse it, and then through a
read-only connection, which recovers the log. A look at a disk that has not
changed since the last one finds the same, so it is not repeated: then only what has been
acknowledged meanwhile is new.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from jobkeep_protocol.errors import StorageError
from jobkeepd.store.connection import journal_path, open_for_looking
from jobkeepd.store.guard import admit
from jobkeepd.store.migrations import check, schema_version
from tests.faults.power_cut.disk import Disk
from tests.faults.power_cut.fates import Fates, all_kept, all_lost, by_chance, seeded, up_to
from tests.faults.power_cut.load import Acknowledged, Scripts, kept_in
from tests.faults.power_cut.trace import Event, Sent, SyncBegun, SyncEnded

GUARDED_EACH = 8
"""One of so many disks is looked at as a daemon does before it opens a file, which takes most of
the time: it computes every checksum of the log."""

Found = list[int] | str
"""How many writes of each client are there; or what is wrong."""


@dataclass
class Report:
    """What was found. The lists say where and what, a line a point."""

    points: int = 0
    looks: int = 0
    lost: list[str] = field(default_factory=list)
    """An acknowledged write is not there."""
    wrong: list[str] = field(default_factory=list)
    """What is there was never so, or cannot be opened."""

    def __str__(self) -> str:
        return (
            f"{self.points} points ({self.looks} disks opened): {len(self.lost)} lost an "
            f"acknowledged write, {len(self.wrong)} left a wrong database"
        )


def telling_moments(events: Sequence[Event]) -> list[int]:
    """The moments, as numbers of events, right before and after each sync and acknowledgement."""
    moments: set[int] = set()
    for index, event in enumerate(events):
        if isinstance(event, SyncBegun | SyncEnded | Sent):
            moments.update((index, index + 1))
    return sorted(moments)


class Replay:
    """Applies a trace to a disk, and looks at what cuts leave."""

    def __init__(self, place: Path, database: Path, scripts: Scripts, seed: int = 0) -> None:
        self.report = Report()
        self._disk = Disk(place)
        self._acknowledged = Acknowledged(len(scripts.scripts))
        self._database = database
        self._scripts = scripts
        self._chance = seeded(seed)
        self._known: dict[Fates, tuple[int, Found]] = {}

    def run(self, events: Sequence[Event], moments: Collection[int], torn: int) -> Report:
        """Cut at these moments: all lost, all kept, what came first kept, and `torn` times what is
        lost, kept or torn decided change by change."""
        with closing(self._disk):
            for moment, event in enumerate(events):
                if moment in moments:
                    self._cut_at(moment, torn)
                self._disk.apply(event)
                self._acknowledged.take(event)
            self._cut_at(len(events), torn)
        return self.report

    def _cut_at(self, moment: int, torn: int) -> None:
        disk = self._disk
        self._judge(f"{moment}, all lost", self._look_once(all_lost, disk.syncs))
        self._judge(f"{moment}, all kept", self._look_once(all_kept, disk.syncs + disk.changes))
        pending = disk.pending
        if len(pending) > 1:
            last = self._chance.choice(pending)
            self._judge(f"{moment}, kept up to change {last}", self._look(up_to(last)))
            for _ in range(torn):
                self._judge(f"{moment}, torn", self._look(by_chance(self._chance)))

    def _look_once(self, fates: Fates, version: int) -> Found:
        """What is found, from the last time if there was no other version of it since."""
        known = self._known.get(fates)
        if known is None or known[0] != version:
            known = self._known[fates] = (version, self._look(fates))
        return known[1]

    def _look(self, fates: Fates) -> Found:
        is_guarded = self.report.looks % GUARDED_EACH == 0
        self.report.looks += 1
        with self._disk.after_cut(fates, self._chance) as root:
            return look(root / self._database, self._scripts, is_guarded=is_guarded)

    def _judge(self, point: str, found: Found) -> None:
        self.report.points += 1
        if isinstance(found, str):
            self.report.wrong.append(f"{point}: {found}")
            return
        for client, acknowledged in enumerate(self._acknowledged.writes):
            if found[client] < acknowledged:
                self.report.lost.append(
                    f"{point}: {found[client]} of {acknowledged} acknowledged writes of client "
                    f"{client} are there"
                )
                return


def look(database: Path, scripts: Scripts, *, is_guarded: bool = True) -> Found:
    """What a daemon that starts here finds: how many writes of each client, or what is wrong.

    Changes none of the files. Unless `is_guarded`, it does not look whether the files are to be
    refused.
    """
    if not database.exists():
        return scripts.nothing
    if not journal_path(database).exists():
        return _open(database, scripts, is_guarded)
    with TemporaryDirectory(dir=database.parent) as copies:  # what it says is undone in the file
        for file in database.parent.iterdir():
            if file.is_file():
                shutil.copy(file, copies)
        return _open(Path(copies, database.name), scripts, is_guarded)


def _open(database: Path, scripts: Scripts, is_guarded: bool) -> Found:
    try:
        if is_guarded:
            admit(database)
        _undo(database)
        with open_for_looking(database) as connection:
            check(connection)
            problems = connection.execute("PRAGMA integrity_check").fetchall()
            if problems != [("ok",)]:
                return f"the database is damaged: {problems}"
            if schema_version(connection) == 0:
                return scripts.nothing
            return scripts.written(kept_in(connection, len(scripts.scripts)))
    except StorageError as error:
        return f"the daemon refuses to start: {error}"


def _undo(database: Path) -> None:
    """Have SQLite undo what a journal says, as it does for any connection that may write."""
    if journal_path(database).exists():
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()


def leave(events: Sequence[Event], fates: Fates, clients: int, place: Path, to: Path) -> list[int]:
    """Make `to` a directory with what a cut after these events leaves; gives how many writes of
    each client had been acknowledged."""
    acknowledged = Acknowledged(clients)
    for event in events:
        acknowledged.take(event)
    with closing(Disk(place)) as disk:
        disk.apply_all(events)
        with disk.after_cut(fates, seeded(0)) as root:
            shutil.copytree(root, to)
    return acknowledged.writes
