"""Whether what is kept is what the clients of `load` were told.

What lives here: each promise, compared with the logs of the clients and with the database. Each
function gives what is wrong, in words, and nothing when all is well. What may not: running
anything.

A client that was killed leaves operations of which nobody knows whether they took effect: these
may be there, once, or not at all.
"""

from __future__ import annotations

import bisect
import itertools
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from msgspec import Struct

from jobkeep import CheckpointState, SheetStatus
from tests.daemon.counters import assert_counters_are_right
from tests.faults.kills import End
from tests.faults.load import differs, output_of, own_state
from tests.faults.operations import Operation


class Told(Struct):
    """What one client was told, and when it was killed, if it was."""

    operations: list[Operation]
    died_at: int | None = None


States = Mapping[str, CheckpointState | None]
"""The jobs as they were loaded while all clients rested."""


def all_jobs(clients: Sequence[Told]) -> set[str]:
    """Every job that a client did something with."""
    return {one.job_id for client in clients for one in client.operations}


def wrong(clients: Sequence[Told], states: States, database: Path) -> list[str]:
    """Everything that is not as it was promised."""
    operations = [one for client in clients for one in client.operations]
    with closing(sqlite3.connect(database)) as connection:
        return [
            *wrong_records(operations, connection),
            *wrong_own_jobs(operations, states),
            *wrong_queues(clients, states),
            *wrong_claims(clients),
            *unsound(connection),
        ]


def wrong_records(operations: Sequence[Operation], connection: sqlite3.Connection) -> Iterator[str]:
    """Each acknowledged record is kept once, under its id, with what it was given."""
    kept: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(
        "SELECT prompt, id, job_id, sheet_num, attempt_num, output, exit_code, duration_seconds "
        "FROM execution_history"
    ):
        kept[row[0]].append(row[1:])
    for one in operations:
        if one.name != "record_execution":
            continue
        sheet_num, attempt_num, prompt = one.arguments
        content = (one.job_id, sheet_num, attempt_num, output_of(prompt), 0, 0.5)
        found = kept.pop(prompt, [])
        if one.is_acknowledged:
            is_right = found == [(one.result, *content)]
        else:
            is_right = [row[1:] for row in found] in ([], [content])
        if not is_right:
            yield f"{one} is kept as {[(row[0], *row[1:4]) for row in found]}"
    yield from (f"nobody has recorded {prompt!r}" for prompt in kept)


def wrong_own_jobs(operations: Sequence[Operation], states: States) -> Iterator[str]:
    """Each save of a job with one writer gives the next revision, and the last one is kept."""
    saves: dict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        if one.name == "save" and one.arguments != MAKING:
            saves[one.job_id].append(one)
    for job_id, made in saves.items():
        acknowledged = [one.result for one in made if one.is_acknowledged]
        if acknowledged != list(range(1, len(acknowledged) + 1)):
            yield f"the saves of {job_id} gave the revisions {acknowledged}"
        wanted = [own_state(job_id, len(acknowledged)), own_state(job_id, len(made))]
        differences = [differs(states[job_id], state) for state in wanted]
        if made and None not in differences:
            yield f"{differences[0]}"


def wrong_queues(clients: Sequence[Told], states: States) -> Iterator[str]:
    """Each queue is made once, changed once by each change, and has the sheets completed that were.

    The sheets of a client that was killed are given back, which changes the queue too: how often
    is not known.
    """
    changes: dict[str, list[Operation]] = defaultdict(list)
    for client in clients:
        for one in client.operations:
            if one.name in CHANGES_OF_QUEUE and (one.name != "save" or one.arguments == MAKING):
                changes[one.job_id].append(one)
    left_open = {job_id for client in clients for job_id in _left_open(client)}
    for job_id, made in changes.items():
        state = states[job_id]
        if state is None:
            yield f"{job_id} is not there"
            continue
        acknowledged = [one for one in made if one.is_acknowledged and not _took_nothing(one)]
        if sum(one.name == "save" for one in acknowledged) > 1:
            yield f"{job_id} was made twice"
        if job_id not in left_open and state.revision != len(acknowledged):
            yield f"{job_id} has the revision {state.revision} after {len(acknowledged)} changes"
        yield from _wrong_sheets(state, made)


def _left_open(client: Told) -> set[str]:
    """The queues that a client was killed in the midst of."""
    if client.died_at is None:
        return set()
    without_end = {one.job_id for one in client.operations if one.returned is None}
    return without_end | {job_id for job_id, _ in _taken(client) - _completed(client)}


def _taken(client: Told) -> set[tuple[str, int]]:
    """The queues and the numbers of the sheets that a client was given."""
    return {
        (one.job_id, one.result)
        for one in client.operations
        if one.name == "claim_next_sheet" and one.is_acknowledged and one.result is not None
    }


def _completed(client: Told) -> set[tuple[str, int]]:
    """The queues and the numbers of the sheets that a client has completed."""
    return {
        (one.job_id, one.arguments[0])
        for one in client.operations
        if one.name == "mark_sheet_status" and one.is_acknowledged
    }


def _wrong_sheets(state: CheckpointState, made: Sequence[Operation]) -> Iterator[str]:
    kept = {n for n, sheet in state.sheets.items() if sheet.status is SheetStatus.COMPLETED}
    marks = [one for one in made if one.name == "mark_sheet_status"]
    acknowledged = {one.arguments[0] for one in marks if one.is_acknowledged}
    asked = {one.arguments[0] for one in marks}
    if not acknowledged <= kept <= asked:
        yield (
            f"{state.job_id}: completed sheets that are not kept: {acknowledged - kept}, kept ones "
            f"that nobody has completed: {kept - asked}"
        )
    is_over = len(kept) == state.total_sheets
    if is_over is not (state.status == "completed"):
        yield f"{state.job_id} has {len(kept)} completed sheets and is {state.status}"


def wrong_claims(clients: Sequence[Told]) -> Iterator[str]:
    """Nobody gets a sheet that a living client has, or that is completed."""
    claims: dict[tuple[str, int], list[tuple[int, Told]]] = defaultdict(list)
    for client in clients:
        for one in client.operations:
            if one.name == "claim_next_sheet" and one.is_acknowledged and one.result is not None:
                claims[one.job_id, one.result].append((one.returned or 0, client))
    for sheet, made in claims.items():
        made.sort(key=itemgetter(0))
        for (_, holder), (given_at, _) in itertools.pairwise(made):
            is_given_back = holder.died_at is not None and holder.died_at < given_at
            if not is_given_back or sheet in _completed(holder):
                yield f"{sheet} was given to somebody else while a client had it"


def unsound(connection: sqlite3.Connection) -> Iterator[str]:
    """The file is sound, no row refers to one that is not there, and every counter is right."""
    for (text,) in connection.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield f"integrity_check: {text}"
    yield from (
        f"foreign_key_check: {row}" for row in connection.execute("PRAGMA foreign_key_check")
    )
    try:
        assert_counters_are_right(connection)
    except AssertionError as error:
        yield f"counters: {error}"


def answered_late(operations: Sequence[Operation], ends: Sequence[End], database: Path) -> int:
    """How many records were made before an end of the daemon and acknowledged after it: they were
    sent again, and answered with what was kept."""
    epoch = time.time_ns() - time.monotonic_ns()
    with closing(sqlite3.connect(database)) as connection:
        made = dict(connection.execute("SELECT id, executed_at FROM execution_history"))
    late = 0
    for one in operations:
        if one.name == "record_execution" and one.returned is not None and one.result in made:
            executed = datetime.fromisoformat(made[one.result]).timestamp() * 1e9 - epoch
            following = bisect.bisect_right(ends, executed, key=attrgetter("over"))
            late += following < len(ends) and ends[following].over < one.returned
    return late


MAKING = [0]
"""The arguments of the save that makes a queue."""

CHANGES_OF_QUEUE = frozenset({"save", "claim_next_sheet", "mark_sheet_status"})


def _took_nothing(one: Operation) -> bool:
    return one.name == "claim_next_sheet" and one.result is None
