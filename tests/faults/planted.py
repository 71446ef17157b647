"""A daemon with one bug: `python -m tests.faults.planted BUG [what jobkeepd takes]`.

What lives here: bugs that the tests of faults must find, each of which breaks one promise and
leaves all else as it is; and the trap, by which a test kills the daemon where that shows the bug.
What may not: anything that a test of the daemon itself uses.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobkeep_protocol.messages import ClaimNextSheet, MarkSheetStatus, Save
from jobkeepd.main import main
from jobkeepd.store import store, writes
from jobkeepd.store.applied import AppliedRequests
from jobkeepd.store.committer import Committer, Write
from jobkeepd.store.store import Store
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writer import Writer
from jobkeepd.store.writes import jobs_changed_by
from tests.support import wait_until


def keep_what_one_sheet_changes() -> None:
    """A claim or a mark leaves the job's state in memory as it was before."""

    def changed(request: Any) -> Sequence[str]:
        is_forgotten = isinstance(request, ClaimNextSheet | MarkSheetStatus)
        return () if is_forgotten else jobs_changed_by(request)

    _plant(store, "jobs_changed_by", changed)


def ignore_revisions() -> None:
    """`if_revision` is not looked at."""
    _change_saves(lambda _, request: msgspec.structs.replace(request, if_revision=None))


def ignore_bases() -> None:
    """A change is applied to what the job is by now, whatever it was a change of."""

    def rebased(tx: Transaction, request: Save) -> Save:
        kept = tx.one("SELECT sequence FROM jobs WHERE id = ?", (request.state.job_id,))
        if request.base is None or kept is None:
            return request
        return msgspec.structs.replace(request, base=kept[0])

    _change_saves(rebased)


def store_no_replies() -> None:
    """That a request was applied is kept in memory only, and forgotten at a kill. The trap is
    between the commit and the replies."""
    _plant(AppliedRequests, "store", lambda _: None)
    transaction = Committer._transaction

    def then_trapped(committer: Committer, batch: list[Write]) -> None:
        before = committer._connection.total_changes
        transaction(committer, batch)
        if _is_trapped(committer, before):
            signal.pause()

    _plant(Committer, "_transaction", then_trapped)


def acknowledge_before_commit() -> None:
    """A write is acknowledged before the commit that holds it. The trap is between the two, and
    nothing is read there: only a kill shows the bug."""

    def begin(writer: Writer) -> None:
        before = writer._committer._connection.total_changes
        writer._committer._connection.execute("BEGIN IMMEDIATE")
        for write in writer._take_queue():
            writer._committer._apply(write)
            write.done(write.outcome)
        if not _is_trapped(writer._committer, before):
            commit(writer)

    def commit(writer: Writer) -> None:
        writer._committer._applied.store()
        writer._committer._connection.execute("COMMIT")
        writer._committer._applied.committed()
        writer._go_on()

    async def read(kept: Store, request: Any) -> Any:
        await kept.drain()
        return await read_at_once(kept, request)

    read_at_once = Store.read
    _plant(Store, "read", read)
    _plant(Writer, "_begin", begin)


def _plant(owner: object, name: str, bug: Callable[..., Any]) -> None:
    setattr(owner, name, bug)


def _change_saves(change: Callable[[Transaction, Save], Save]) -> None:
    save = writes.WRITES[Save]
    writes.WRITES[Save] = lambda tx, request: save(tx, change(tx, request))


# -- the trap -----------------------------------------------------------------------------------


def trap(database: Path) -> None:
    """Let the daemon stop for ever where a kill shows its bug; returns when it is there."""
    is_set, has_sprung = _trap(database)
    is_set.touch()
    wait_until(has_sprung.exists)
    has_sprung.unlink()


def _is_trapped(committer: Committer, changes_before: int) -> bool:
    """Whether a kill is to come here: not where nothing has changed."""
    if committer._connection.total_changes == changes_before:
        return False
    is_set, has_sprung = _trap(committer._database)
    try:
        is_set.rename(has_sprung)
    except FileNotFoundError:
        return False
    return True


def _trap(database: Path) -> tuple[Path, Path]:
    return database.with_name("trap-is-set"), database.with_name("trap-has-sprung")


BUGS = {
    "stale-load": keep_what_one_sheet_changes,
    "lost-update": ignore_revisions,
    "misplaced-change": ignore_bases,
    "applied-twice": store_no_replies,
    "acknowledged-early": acknowledge_before_commit,
}
NEEDS_KILLS = ("applied-twice", "acknowledged-early")
"""Bugs that nothing but a kill can show, and that have a trap."""

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    main()
