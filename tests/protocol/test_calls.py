"""Calls: which requests a method sends, and what it makes of the replies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from jobkeep_protocol import calls
from jobkeep_protocol import messages as m
from jobkeep_protocol import request as r
from jobkeep_protocol.backend import ExecutionRecord, JobSummary, highest_sheet
from jobkeep_protocol.changes import SeenJobs
from jobkeep_protocol.errors import InvalidRequest, StorageError
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus

T = TypeVar("T")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Script:
    """A daemon that answers with these replies, in order, and keeps the requests."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.requests: list[r.Request[Any]] = []

    def __call__(self, request: r.Request[Any]) -> Any:
        self.requests.append(request)
        return self.replies.pop(0)

    def run(self, call: calls.Call[T]) -> T:
        """Run a call against this script, to the end of both."""
        result = play(call, self)
        assert self.replies == []
        return result


def play(call: calls.Call[T], exchange: Callable[[r.Request[Any]], Any]) -> T:
    """Run a call where there is only one thread."""
    return calls.run_blocking(call, exchange, nullcontext())


def job(job_id: str = "job", *numbers: int) -> CheckpointState:
    """A job with these sheets."""
    return CheckpointState(
        job_id=job_id,
        total_sheets=9,
        created_at=NOW,
        updated_at=NOW,
        sheets={number: SheetState(sheet_num=number) for number in numbers},
    )


def sheets(*numbers: int) -> list[SheetState]:
    """New sheets with these numbers."""
    return [SheetState(sheet_num=number) for number in numbers]


def record(record_id: int) -> ExecutionRecord:
    """A record with this id."""
    return {
        "id": record_id,
        "job_id": "job",
        "sheet_num": 1,
        "attempt_num": 1,
        "prompt": None,
        "output": None,
        "exit_code": None,
        "duration_seconds": None,
        "executed_at": "2026-03-01T00:00:00.000000+00:00",
    }


def summary(job_id: str) -> JobSummary:
    """A summary of the job with this id."""
    return {
        "id": job_id,
        "name": "",
        "status": "pending",
        "total_sheets": 1,
        "last_completed_sheet": 0,
        "created_at": "2026-03-01T00:00:00.000000+00:00",
        "updated_at": f"2026-03-01T00:00:00.00000{job_id}+00:00",
        "completed_at": None,
        "error_message": None,
    }


# -- one request, one reply ---------------------------------------------------------------------

RECORD = m.RecordExecution("job", 1, 2, "p", "o", 0, 1.5)


@pytest.mark.parametrize(
    ("call", "request_", "reply", "result"),
    [
        (lambda: calls.delete("job"), m.Delete("job"), True, True),
        (lambda: calls.get_next_sheet("job"), m.GetNextSheet("job"), 3, 3),
        (
            lambda: calls.mark_sheet_status("job", 1, "ready", "why"),
            m.MarkSheetStatus("job", 1, SheetStatus.READY, "why"),
            None,
            None,
        ),
        (
            lambda: calls.save_sheet("job", SheetState(sheet_num=1)),
            m.SaveSheet("job", SheetState(sheet_num=1)),
            4,
            4,
        ),
        (lambda: calls.claim_next_sheet("job", 2), m.ClaimNextSheet("job", 2), None, None),
        (lambda: calls.ask(RECORD), RECORD, 7, 7),
        (
            lambda: calls.get_execution_history_count("job", 2),
            m.GetExecutionHistoryCount("job", 2),
            5,
            5,
        ),
        (
            lambda: calls.get_job_statistics("job"),
            m.GetJobStatistics("job"),
            {"total_sheets": 1},
            {"total_sheets": 1},
        ),
        (lambda: calls.get_job_statistics("job"), m.GetJobStatistics("job"), None, {}),
    ],
)
def test_simple_method_sends_one_request_and_gives_its_reply(
    call: Callable[[], calls.Call[Any]], request_: r.Request[Any], reply: Any, result: Any
) -> None:
    script = Script(reply)

    assert script.run(call()) == result
    assert script.requests == [request_]


@pytest.mark.parametrize(
    "call",
    [
        lambda: calls.mark_sheet_status("job", 1, "DONE"),
        lambda: calls.query_jobs(status="asleep"),
        lambda: calls.query_jobs(limit=-1),
        lambda: calls.delete(""),
        lambda: calls.get_execution_history("job", limit=-1),
    ],
)
def test_bad_value_is_refused_before_anything_is_sent(
    call: Callable[[], calls.Call[Any]],
) -> None:
    script = Script()
    with pytest.raises(InvalidRequest):
        script.run(call())
    assert script.requests == []


def test_sheet_that_was_spoilt_by_hand_is_refused_before_anything_is_sent() -> None:
    script, sheet = Script(), SheetState(sheet_num=1)
    sheet.attempt_count = -1
    with pytest.raises(InvalidRequest, match="attempt_count is -1"):
        script.run(calls.save_sheet("job", sheet))
    assert script.requests == []


async def test_asynchronous_run_sends_the_same() -> None:
    script = Script(m.JobsPage([summary("5")], more=True), m.JobsPage([summary("3")]))

    async def exchange(request: r.Request[Any]) -> Any:
        return script(request)

    found = await calls.run(calls.query_jobs(limit=2), exchange)

    assert [one["id"] for one in found] == ["5", "3"]
    assert len(script.requests) == 2


def test_blocking_run_lets_go_of_the_lock_while_it_waits() -> None:
    lock = threading.Lock()

    def exchange(_: r.Request[Any]) -> m.JobsPage:
        assert not lock.locked()
        return m.JobsPage([])

    assert calls.run_blocking(calls.query_jobs(), exchange, lock) == []
    assert not lock.locked()


def test_error_of_an_exchange_ends_the_call() -> None:
    def fail(_: r.Request[Any]) -> Any:
        raise StorageError("no disk")

    with pytest.raises(StorageError, match="no disk"):
        play(calls.delete("job"), fail)


# -- load ---------------------------------------------------------------------------------------


def test_load_of_an_unknown_job_gives_none() -> None:
    assert Script(None).run(calls.load("job")) is None


def test_load_puts_the_pages_together() -> None:
    script = Script(
        m.Loaded(job(), sheets(1, 2), 7, more=True),
        m.Loaded(None, sheets(4), 7, more=True),
        m.Loaded(None, [], 7),
    )

    assert script.run(calls.load("job")) == job("job", 1, 2, 4)
    assert script.requests == [m.Load("job"), m.Load("job", 2), m.Load("job", 4)]


def test_load_asks_from_the_start_when_the_first_page_has_no_sheets() -> None:
    script = Script(m.Loaded(job(), [], 7, more=True), m.Loaded(None, sheets(1), 7))

    assert script.run(calls.load("job")) == job("job", 1)
    assert script.requests[1] == m.Load("job", 0)


@pytest.mark.parametrize("meanwhile", [m.Loaded(None, sheets(9), 8), None])
def test_load_begins_again_when_the_job_changed_between_pages(meanwhile: m.Loaded | None) -> None:
    script = Script(
        m.Loaded(job(), sheets(1), 7, more=True), meanwhile, m.Loaded(job(), sheets(2), 8)
    )

    assert script.run(calls.load("job")) == job("job", 2)


def test_load_remembers_what_it_saw() -> None:
    seen = SeenJobs()
    Script(m.Loaded(job(), sheets(1), 7)).run(calls.load("job", seen))

    remembered = seen.get("job")
    assert remembered is not None
    assert (remembered.sequence, remembered.sheets.numbers) == (7, [1])


# -- save ---------------------------------------------------------------------------------------


def test_first_save_sends_the_whole_state() -> None:
    seen, saved = SeenJobs(), m.Saved(1, NOW, 7)
    script = Script(saved)

    assert script.run(calls.save(job("job", 1), seen, if_revision=0)) == saved

    (request,) = script.requests
    assert isinstance(request, m.Save)
    assert (request.base, request.if_revision, len(request.sheets)) == (None, 0, 1)
    assert seen.get("job") is not None


def test_second_save_sends_what_changed() -> None:
    seen, state = SeenJobs(), job("job", 1)
    script = Script(m.Saved(1, NOW, 7), m.Saved(2, NOW, 8))

    play(calls.save(state, seen), script)
    state.sheets[2] = SheetState(sheet_num=2)
    script.run(calls.save(state, seen, if_revision=1))

    request = script.requests[1]
    assert isinstance(request, m.Save)
    assert (request.base, request.if_revision, len(request.sheets)) == (7, 1, 1)


def test_save_falls_back_to_the_whole_state_when_the_daemon_moved_on() -> None:
    seen, state, saved = SeenJobs(), job("job", 1), m.Saved(3, NOW, 9)
    script = Script(m.Saved(1, NOW, 7), None, saved)

    play(calls.save(state, seen), script)
    assert script.run(calls.save(state, seen)) == saved

    bases = [request.base for request in script.requests if isinstance(request, m.Save)]
    assert bases == [None, 7, None]
    remembered = seen.get("job")
    assert remembered is not None
    assert remembered.sequence == 9


def test_save_that_fails_remembers_nothing_new() -> None:
    seen = SeenJobs()

    def fail(_: r.Request[Any]) -> Any:
        raise StorageError("no disk")

    with pytest.raises(StorageError):
        play(calls.save(job(), seen), fail)

    assert seen.get("job") is None


# -- lists --------------------------------------------------------------------------------------


def test_list_jobs_gives_all_pages_last_updated_first() -> None:
    script = Script(
        m.StatesPage([m.Loaded(job("a"), [], 7), m.Loaded(job("b"), sheets(1), 5)], 2),
        m.StatesPage([m.Loaded(job("c"), [], 6)]),
    )

    assert script.run(calls.list_jobs()) == [job("a"), job("c"), job("b", 1)]
    assert script.requests == [m.ListJobs(0), m.ListJobs(2)]


def test_list_jobs_gives_a_job_that_was_made_anew_meanwhile_once() -> None:
    script = Script(
        m.StatesPage([m.Loaded(job("a"), [], 1), m.Loaded(job("b"), [], 2)], 2),
        m.StatesPage([m.Loaded(job("a"), sheets(1), 3)]),
    )

    assert script.run(calls.list_jobs()) == [job("a", 1), job("b")]


def test_list_jobs_reads_the_further_sheets_of_a_large_job() -> None:
    script = Script(
        m.StatesPage([m.Loaded(job("a"), sheets(1), 1, more=True)]),
        m.Loaded(None, sheets(2), 1),
    )

    assert script.run(calls.list_jobs()) == [job("a", 1, 2)]
    assert script.requests == [m.ListJobs(0), m.Load("a", 1)]


def test_list_jobs_leaves_out_a_large_job_that_went_away() -> None:
    script = Script(
        m.StatesPage([m.Loaded(job("a"), [], 1, more=True), m.Loaded(job("b"), [], 2)]),
        None,  # the next page of a's sheets
        None,  # a, loaded again
    )

    assert script.run(calls.list_jobs()) == [job("b")]


def test_query_jobs_pages_until_the_limit() -> None:
    script = Script(m.JobsPage([summary("5"), summary("4")], more=True), m.JobsPage([summary("3")]))

    found = script.run(calls.query_jobs("paused", NOW, 3))

    assert [one["id"] for one in found] == ["5", "4", "3"]
    assert script.requests == [
        m.QueryJobs(JobStatus.PAUSED, NOW, 3),
        m.QueryJobs(JobStatus.PAUSED, NOW, 1, "4", summary("4")["updated_at"]),
    ]


@pytest.mark.parametrize(
    ("after", "position"),
    [(None, (None, None)), ("4", ("4", None)), (summary("4"), ("4", summary("4")["updated_at"]))],
)
def test_query_jobs_begins_after_an_id_or_a_summary(after: Any, position: Any) -> None:
    script = Script(m.JobsPage([]))

    script.run(calls.query_jobs(after=after))

    assert script.requests == [m.QueryJobs(None, None, 50, *position)]


def test_history_pages_until_the_limit() -> None:
    script = Script(m.HistoryPage([record(9), record(8)], more=True), m.HistoryPage([record(7)]))

    found = script.run(calls.get_execution_history("job", 1, 3, 10))

    assert found == [record(9), record(8), record(7)]
    assert script.requests == [
        m.GetExecutionHistory("job", 1, 3, 10),
        m.GetExecutionHistory("job", 1, 1, 8),
    ]


# -- artifacts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "highest"),
    [
        ([], None),
        (["readme.md", "sheet.txt"], None),
        (["sheet1.md", "sheet12.md", "sheet3.md"], 12),
        (["Sheet-04_of_sheet-05.txt"], 5),
        (["out_sheet_7.log", "SHEET 8"], 8),
    ],
)
def test_highest_sheet_in_file_names(names: list[str], highest: int | None) -> None:
    assert highest_sheet(names) == highest
