"""What several clients saw at the same time, the daemon being killed meanwhile, has one order; and
bugs that leave none are found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.daemon_process import DaemonProcess
from tests.faults.histories.run import make_histories, violations
from tests.faults.planted import BUGS, NEEDS_KILLS, trap
from tests.support import scaled

RecordProperty = Callable[[str, object], None]

LONG = (pytest.mark.soak, pytest.mark.timeout(scaled(600)))
QUICK_BUGS = ["stale-load", "lost-update", "applied-twice"]


@pytest.mark.parametrize(
    ("seed", "ends"), [(1, 4), *(pytest.param(seed, 25, marks=LONG) for seed in range(2, 22))]
)
def test_one_order_explains_what_all_clients_saw(
    daemon_process: DaemonProcess, seed: int, ends: int, record_property: RecordProperty
) -> None:
    run = make_histories(daemon_process, seed, ends, hasty_clients=1)

    record_property("figures", str(run))
    assert violations(run.histories) == []
    run.assert_enough(ends)
    assert run.unknown > 0, "void: it is known of every write whether it took effect"


@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        *((bug, 1) for bug in QUICK_BUGS),
        *(pytest.param(bug, seed, marks=LONG) for bug in BUGS for seed in range(2, 7)),
    ],
)
def test_bug_is_found(
    daemon_process: DaemonProcess, bug: str, seed: int, record_property: RecordProperty
) -> None:
    daemon_process.program = ["-m", "tests.faults.planted", bug]
    ends, prepare = 1, lambda: None
    if bug in NEEDS_KILLS:
        ends, prepare = 4, partial(trap, daemon_process.database)

    run = make_histories(daemon_process, seed, ends, prepare=prepare)

    found = violations(run.histories)
    record_property("figures", f"{len(found)} jobs without an order; {run}")
    run.assert_enough_operations(ends)
    assert found
