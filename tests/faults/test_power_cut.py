"""A power cut at any point: what was acknowledged is there, and the database is in order.

How it is done is described in `tests.faults.power_cut`. `make soak` cuts a long trace at every one
of its points, and kills the daemon at each sync of its first start.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.daemon_process import DaemonProcess
from tests.faults.power_cut.disk import Disk
from tests.faults.power_cut.fates import (
    Fate,
    Fates,
    all_kept,
    all_lost,
    all_torn,
    by_chance,
    seeded,
)
from tests.faults.power_cut.lives import (
    DATABASE,
    MANY,
    Lived,
    Plan,
    disk_fails_at,
    killed_after_its_disk_failed_at,
    killed_at,
    stopped,
    trace_lives,
)
from tests.faults.power_cut.load import Clients, Scripts
from tests.faults.power_cut.replay import Replay, Report, leave, look, telling_moments
from tests.faults.power_cut.trace import (
    Event,
    FileMade,
    Removed,
    Renamed,
    Resized,
    SyncBegun,
    SyncEnded,
    Written,
    tracing,
    why_not,
)
from tests.support import scaled

CLIENTS = 4

LIVES: list[Plan] = [
    *(killed_at(12), disk_fails_at(12)),
    *(killed_at, killed_after_its_disk_failed_at),
    *(stopped(60), stopped()),
]
"""Killed, and with a disk that fails, somewhere; and then between writing a commit to the log and
its sync; stopped twice."""

LOG_HEADER_BYTES = 32
"""What SQLite writes first into a log, each time it begins at its beginning."""


class Traced(NamedTuple):
    """A trace, and what was to be written in it."""

    scripts: Scripts
    lives: list[Lived]

    @property
    def events(self) -> list[Event]:
        """Of all lives, one after the other."""
        return list(itertools.chain.from_iterable(life.events for life in self.lives))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """A daemon as it is by default, through several lives."""
    return trace(tmp_path_factory.mktemp("full"), 220, LIVES)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory whose files are quick."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as directory:
        yield Path(directory, "power-cut")


def trace(directory: Path, writes: int, plans: Sequence[Plan], *options: str) -> Traced:
    """Trace a daemon in these lives, with so many writes of each client."""
    skip_unless_traceable()
    scripts = Scripts(CLIENTS, writes)
    return Traced(scripts, trace_lives(directory, scripts, plans, *options))


def skip_unless_traceable() -> None:
    """Leave out a test that has nothing to look at."""
    if (reason := why_not()) is not None:
        pytest.skip(f"a daemon cannot be traced here: {reason}")


def cut_everywhere(traced: Traced, memory: Path, torn: int = 2) -> Report:
    """Cut at every moment that may tell something."""
    moments = set(telling_moments(traced.events))
    return Replay(memory, DATABASE, traced.scripts).run(traced.events, moments, torn)


# -- the daemon ---------------------------------------------------------------------------------


def test_every_acknowledged_write_survives_a_power_cut_and_the_database_is_in_order(
    full: Traced, memory: Path
) -> None:
    report = cut_everywhere(full, memory)

    assert report.points > 1_000
    assert not report.wrong, f"{report}, the first at {report.wrong[0]}"
    assert not report.lost, f"{report}, the first at {report.lost[0]}"


def test_with_durability_normal_acknowledged_writes_are_lost_and_the_database_is_in_order(
    tmp_path: Path, memory: Path
) -> None:
    normal = trace(tmp_path, 100, [stopped()], "--durability", "normal")
    moments = seeded(0).sample(telling_moments(normal.events), 100)

    report = Replay(memory, DATABASE, normal.scripts).run(normal.events, moments, torn=1)

    assert len(report.lost) > report.points / 4, report
    assert not report.wrong, f"{report}, the first at {report.wrong[0]}"


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_daemon_that_starts_after_a_power_cut_goes_on_where_its_clients_are(
    full: Traced, memory: Path, tmp_path: Path, share: float
) -> None:
    moment = round(len(full.events) * share)

    start_after_a_cut(full, moment, by_chance(seeded(moment)), memory, tmp_path)


def test_daemon_starts_after_a_power_cut_while_it_made_the_file(
    full: Traced, memory: Path, tmp_path: Path
) -> None:
    moment = full.events.index(Removed(f"{DATABASE}-journal"))

    start_after_a_cut(full, moment, all_kept, memory, tmp_path)


def start_after_a_cut(
    traced: Traced, moment: int, fates: Fates, memory: Path, directory: Path
) -> None:
    """Start a daemon on what a cut leaves; its clients send what was not acknowledged, under the
    same ids, and everything must be there once."""
    scripts = traced.scripts
    left = directory / "left"
    acknowledged = leave(traced.events[:moment], fates, CLIENTS, memory, left)
    daemon = DaemonProcess(directory)
    daemon.database = left / DATABASE
    try:
        daemon.start()
        clients = Clients(daemon, scripts, acknowledged)
        clients.write(float("inf"), MANY)
        daemon.stop()
    finally:
        daemon.clean_up()

    assert clients.are_done
    assert look(daemon.database, scripts) == [len(one) for one in scripts.scripts]


def test_daemon_whose_log_cannot_be_put_on_disk_says_so_and_does_not_start(
    daemon_process: DaemonProcess, tmp_path: Path
) -> None:
    skip_unless_traceable()
    daemon_process.start()
    daemon_process.kill()
    names_synced = 2  # of the directories of the database and of the socket
    daemon_process.wrapper = tracing(tmp_path / "trace", f"fsync:error=EIO:when={names_synced + 1}")

    daemon_process.spawn()

    assert daemon_process.wait() == 1
    assert "cannot be put on disk: [Errno 5] Input/output error" in daemon_process.log
    assert "Traceback" not in daemon_process.log


# -- the trace: what the tests above rely on ----------------------------------------------------


def test_trace_has_commits_that_the_next_life_finds_and_no_sync_covers(full: Traced) -> None:
    ahead = [lived.life.end for lived in full.lives if lived.is_ahead]

    assert {"killed", "disk failed"} <= set(ahead)
    assert "stopped" not in ahead


def test_trace_has_checkpoints_and_a_log_that_begins_again(full: Traced) -> None:
    last = full.lives[-1].events
    log, database = f"{DATABASE}-wal", str(DATABASE)

    checkpoints = [event for event in last if event == SyncEnded(database, is_good=True)]
    beginnings = [
        event
        for event in last
        if isinstance(event, Written) and event.path == log and len(event.data) == LOG_HEADER_BYTES
    ]

    assert len(checkpoints) > 1
    assert len(beginnings) > 1


def test_trace_is_whole_for_the_model_ends_up_with_the_files_as_they_are(
    full: Traced, memory: Path
) -> None:
    with closing(Disk(memory)) as disk:
        for life in full.lives:
            disk.apply_all(life.events)

            assert disk.files_seen() == life.files


# -- longer -------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
def test_long_trace_cut_at_every_point(
    tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = trace(tmp_path, 700, LIVES)

    report = Replay(memory, DATABASE, long.scripts).run(
        long.events, range(len(long.events)), torn=2
    )

    with capsys.disabled():
        print(f"\npower cuts: {report}")
    assert not report.wrong, f"{report}, the first at {report.wrong[0]}"
    assert not report.lost, f"{report}, the first at {report.lost[0]}"


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
def test_long_trace_with_durability_normal_loses_writes_and_keeps_the_database_in_order(
    tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = trace(tmp_path, 300, [stopped(600), stopped()], "--durability", "normal")
    moments = seeded(0).sample(telling_moments(normal.events), 700)

    report = Replay(memory, DATABASE, normal.scripts).run(normal.events, moments, torn=2)

    with capsys.disabled():
        print(f"\npower cuts with durability normal: {report}")
    assert len(report.lost) > report.points / 4, report
    assert not report.wrong, f"{report}, the first at {report.wrong[0]}"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("call", "number"),
    [*(("fdatasync", number) for number in range(1, 13)), *(("fsync", n) for n in range(1, 7))],
)
def test_daemon_killed_at_a_sync_of_its_first_start_and_then_a_power_cut(
    tmp_path: Path, memory: Path, call: str, number: int
) -> None:
    killed = trace(tmp_path, 60, [killed_at(number, call), stopped()])

    report = cut_everywhere(killed, memory, torn=5)

    assert not report.wrong, f"{report}, the first at {report.wrong[0]}"
    assert not report.lost, f"{report}, the first at {report.lost[0]}"


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
def test_daemon_starts_after_a_power_cut_at_any_of_many_points(
    full: Traced, memory: Path, tmp_path: Path
) -> None:
    for moment in seeded(0).sample(telling_moments(full.events), 50):
        directory = tmp_path / str(moment)
        directory.mkdir()
        fates = by_chance(seeded(moment))
        start_after_a_cut(full, moment, fates, memory / str(moment), directory)


# -- the model of a disk ------------------------------------------------------------------------

SYNCED: list[Event] = [SyncBegun("file"), SyncEnded("file", is_good=True)]
FAILED: list[Event] = [SyncBegun("file"), SyncEnded("file", is_good=False)]
NAMES_SYNCED: list[Event] = [SyncBegun("."), SyncEnded(".", is_good=True)]
MADE: list[Event] = [FileMade("file"), *NAMES_SYNCED]


def after_cut(
    place: Path, events: Sequence[Event], fates: Fates = all_lost, seed: int = 0
) -> dict[str, bytes]:
    """The files that are left when the power is cut after these events."""
    with closing(Disk(place)) as disk:
        disk.apply_all(events)
        with disk.after_cut(fates, seeded(seed)) as found:
            return {path.name: path.read_bytes() for path in found.iterdir()}


def test_what_is_synced_survives_and_the_rest_may_not(memory: Path) -> None:
    events = [*MADE, Written("file", 0, b"kept"), *SYNCED, Written("file", 0, b"lost")]

    assert after_cut(memory / "lost", events) == {"file": b"kept"}
    assert after_cut(memory / "kept", events, all_kept) == {"file": b"lost"}


def test_sync_covers_what_was_written_before_it_began_and_only_once_it_has_returned(
    memory: Path,
) -> None:
    first, second = Written("file", 0, b"1"), Written("file", 1, b"2")

    assert after_cut(memory / "begun", [*MADE, first, SYNCED[0], second]) == {"file": b""}
    assert after_cut(memory / "ended", [*MADE, first, SYNCED[0], second, SYNCED[1]]) == {
        "file": b"1"
    }


def test_write_is_torn_between_sectors_and_not_inside_them(memory: Path) -> None:
    events = [*MADE, Written("file", 0, b"a" * 2048), *SYNCED, Written("file", 100, b"b" * 1900)]

    left = [after_cut(memory / str(seed), events, all_torn, seed)["file"] for seed in range(100)]

    sectors = [[one[at : at + 512] for at in range(0, 2048, 512)] for one in left]
    assert {one[0] for one in sectors} == {b"a" * 512, b"a" * 100 + b"b" * 412}
    assert {one[1] for one in sectors} == {b"a" * 512, b"b" * 512}
    assert len(set(left)) == 16


def test_sector_that_survives_a_later_write_has_the_earlier_ones_too(memory: Path) -> None:
    events = [*MADE, Written("file", 0, b"1" * 10), Written("file", 10, b"2" * 10)]

    left = after_cut(memory, events, lambda number: Fate.KEPT if number == 3 else Fate.LOST)

    assert left == {"file": b"1" * 10 + b"2" * 10}


def test_file_that_grew_may_have_anything_where_a_write_was_lost(memory: Path) -> None:
    events = [*MADE, Written("file", 0, b"1" * 512), Written("file", 512, b"2" * 512)]

    left = after_cut(memory, events, lambda number: Fate.KEPT if number == 3 else Fate.LOST)

    assert left["file"][512:] == b"2" * 512
    assert left["file"][:512] not in {b"1" * 512, bytes(512)}


def test_size_is_a_change_like_any_other(memory: Path) -> None:
    events = [*MADE, Written("file", 0, b"1234"), *SYNCED, Resized("file", 2)]

    assert after_cut(memory / "lost", events) == {"file": b"1234"}
    assert after_cut(memory / "kept", events, all_kept) == {"file": b"12"}


def test_name_is_not_there_before_its_directory_was_synced(memory: Path) -> None:
    made = [FileMade("file"), Written("file", 0, b"x"), *SYNCED]

    assert after_cut(memory / "made", made) == {}
    assert after_cut(memory / "synced", [*made, *NAMES_SYNCED]) == {"file": b"x"}


def test_name_is_changed_or_not_but_never_in_part(memory: Path) -> None:
    events = [*MADE, Renamed("file", "other")]

    assert set(after_cut(memory / "lost", events)) == {"file"}
    assert set(after_cut(memory / "kept", events, all_kept)) == {"other"}


def test_after_a_sync_that_failed_only_writing_again_helps(memory: Path) -> None:
    data = seeded(0).randbytes(64 * 512)
    events = [*MADE, Written("file", 0, data), *FAILED]
    again = Written("file", 0, data)

    assert after_cut(memory / "synced", [*events, *SYNCED], all_kept)["file"] != data
    assert after_cut(memory / "written", [*events, again, *SYNCED])["file"] == data
