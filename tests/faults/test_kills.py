"""The daemon is killed again and again while clients work: what they were told stays true.

That the daemon was killed says little: a run in which the clients had few writes acknowledged, or
in which few kills met a write, is void and fails.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from jobkeep import Client
from tests.daemon_process import DaemonProcess
from tests.faults.crew import Crew
from tests.faults.kills import Ending, Figures, Killer, figures_of
from tests.faults.ledger import Told, all_jobs, answered_late, unsound, wrong
from tests.faults.operations import read_log
from tests.faults.planted import NEEDS_KILLS, trap
from tests.support import scaled

SOAK = (pytest.mark.soak, pytest.mark.timeout(scaled(1200)))

CLIENTS = 4
BYTES_BETWEEN_ENDS = 300_000
"""What the clients log, at most, between two ends: nearly three thousand operations."""

ENDS_PER_DEAD_CLIENT = 4
HUNDREDS = 300


class Run:
    """Clients that work while the daemon ends again and again, and some of them with it."""

    figures: Figures
    late: int

    def __init__(
        self,
        daemon: DaemonProcess,
        ending: Ending,
        seed: int,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self.daemon = daemon
        self.killer = Killer(daemon, seed, ending, prepare)
        self.crew = Crew("tests.faults.load", daemon.socket)
        self.wrong: list[str] = []
        self._choice = random.Random(seed)  # noqa: S311 # who dies is no secret

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.crew.clean_up()

    def assert_promises_are_kept(self, ends: int, looks: int) -> None:
        """Let the daemon end so many times; so many of these times the files are looked at."""
        self._work(ends, looks)
        self._judge()
        assert self.wrong == []

    def _work(self, ends: int, looks: int) -> None:
        self.killer.start()
        self.crew.hire(CLIENTS)
        for number in range(1, ends + 1):
            self.crew.wait_until_logged(self.killer.a_share_of(BYTES_BETWEEN_ENDS))
            if number % (ends // looks) == 0:
                self._end_and_look()
            else:
                self.killer.end()
            if number % ENDS_PER_DEAD_CLIENT == 0:
                self._choice.choice(self.crew.living).kill()
                self.crew.hire(1)
        self.crew.wait_until_logged(self.killer.a_share_of(BYTES_BETWEEN_ENDS))
        self.crew.order("rest")

    def _judge(self) -> None:
        """Compare what the clients were told with what is kept; ends them and the daemon."""
        clients = [Told(read_log(one.log), one.died_at) for one in self.crew.members]
        with Client(self.daemon.socket) as client:
            states = {job_id: client.load(job_id) for job_id in all_jobs(clients)}
        self.crew.leave()
        self.daemon.stop()
        self.wrong += wrong(clients, states, self.daemon.database)
        operations = [one for told in clients for one in told.operations]
        self.figures = figures_of(operations, self.killer)
        self.late = answered_late(operations, self.killer.ends, self.daemon.database)

    def _end_and_look(self) -> None:
        """Look at what a dead daemon has left behind, while the next one works already."""
        left = self.daemon.database.parent / "left"
        left.mkdir()
        self.killer.end(lambda: copy_files(self.daemon.database, left))
        with closing(sqlite3.connect(left / self.daemon.database.name)) as connection:
            self.wrong += unsound(connection)
        shutil.rmtree(left)


def copy_files(database: Path, directory: Path) -> None:
    """Copy a database, and the log it may have, which nobody has open."""
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copy(path, directory)


@pytest.mark.parametrize(
    ("ending", "ends", "looks"),
    [
        pytest.param("kill", 8, 2, id="kill"),
        pytest.param("stop", 2, 1, id="stop"),
        pytest.param("kill", HUNDREDS, 15, id="kill-hundreds", marks=SOAK),
    ],
)
def test_what_clients_were_told_stays_true_however_often_the_daemon_ends(
    daemon_process: DaemonProcess,
    ending: Ending,
    ends: int,
    looks: int,
    record_property: Callable[[str, object], None],
) -> None:
    with Run(daemon_process, ending, seed=ends) as run:
        run.assert_promises_are_kept(ends, looks)

    record_property(
        "figures", f"{run.figures}, {run.late} records made before an end and told after it"
    )
    run.figures.assert_enough_ends(ends)
    if ending == "kill":
        run.figures.assert_enough_writes()
    assert run.late > 0 or ends < HUNDREDS, (
        "void: nothing that was acknowledged after an end was made before it"
    )


@pytest.mark.soak
@pytest.mark.parametrize("bug", NEEDS_KILLS)
def test_bug_that_kills_show_is_found(daemon_process: DaemonProcess, bug: str) -> None:
    daemon_process.program = ["-m", "tests.faults.planted", bug]
    prepare = partial(trap, daemon_process.database)

    with (
        Run(daemon_process, "kill", 1, prepare) as run,
        pytest.raises(AssertionError, match="revision"),  # a client's own, or of a queue
    ):
        run.assert_promises_are_kept(ends=4, looks=1)
