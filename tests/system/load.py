"""Workers in a machine that keep a daemon busy, and what must hold afterwards.

What lives here: starting them and holding them to what they were told. What may not: what is done
to the daemon meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import wait_until
from tests.system.machine import Machine, python

WORKERS = 8
STOP = "/run/stop"
BUSY = 100
"""So many writes after a start show that all of them are at work again."""

_WORK = f"""
import os, sys
from jobkeep import CheckpointState, Client
job, acknowledged = sys.argv[1], 0
with Client() as jobs:
    jobs.save(CheckpointState(job_id=job, total_sheets=1))
    while not os.path.exists({STOP!r}):
        jobs.record_execution(job, 1, acknowledged + 1, output="x" * 100)
        acknowledged += 1
print(acknowledged)
"""

_COUNT = """
import json
from jobkeep import Client
with Client() as jobs:
    ids = [job["id"] for job in jobs.query_jobs()]
    print(json.dumps({one: jobs.get_execution_history_count(one) for one in ids}))
"""


@contextmanager
def busy_workers(machine: Machine) -> Iterator[None]:
    """Eight workers that write all the time. At the end, none of them has seen an error, and what
    each was told is kept, once."""
    workers = {
        f"job-{number}": machine.start(*python(_WORK), f"job-{number}", user="alice")
        for number in range(WORKERS)
    }
    wait_until_busy(machine)
    yield
    wait_until_busy(machine)
    machine.run("touch", STOP)
    told: dict[str, int] = {}
    for job, worker in workers.items():
        out, err = worker.communicate()
        assert (worker.returncode, err) == (0, ""), machine.journal()
        told[job] = int(out)
    assert json.loads(machine.run(*python(_COUNT))) == told


def wait_until_busy(machine: Machine) -> None:
    """Wait until the daemon that runs now is kept busy."""
    wait_until(lambda: bool(status(machine)["writes"] >= BUSY))


def status(machine: Machine) -> dict[str, Any]:
    """What the daemon says of itself."""
    found: dict[str, Any] = json.loads(machine.run("jobkeep", "status", "--json"))
    return found
