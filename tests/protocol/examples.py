"""One example of every message of protocol version 1, with each field set.

The bytes of these are kept in `golden_v1.json` and never change.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobkeep_protocol import messages as m
from jobkeep_protocol import reports
from jobkeep_protocol import request as r
from jobkeep_protocol.errors import ERRORS_BY_CODE, JobkeepError
from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
from jobkeep_protocol.pruning import PrunedJob
from jobkeep_protocol.search import Mark, SearchHit, SearchPage
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.transfer import (
    ImportBegun,
    ImportedJob,
    ImportStep,
    KeptExecution,
    KeptFailure,
    KeptHistory,
)

CREATED = datetime(2026, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)
UPDATED = datetime(2026, 3, 1, 12, 31, 0, 1, tzinfo=UTC)
FREE_FORM = {"text": "né", "number": 1.5, "whole": -3, "yes": True, "no": None, "list": [[], {}]}


def full_sheet() -> SheetState:
    """A sheet with a value of its own in every field."""
    return SheetState(
        sheet_num=2,
        status=SheetStatus.FAILED,
        started_at=CREATED,
        completed_at=UPDATED,
        attempt_count=3,
        exit_code=-11,
        exit_signal=11,
        exit_reason="signal",
        execution_duration_seconds=12.25,
        error_message="it broke",
        error_category="crash",
        error_code="E42",
        validation_passed=False,
        validation_details=[{"rule": "r1", "passed": False}],
        completion_attempts=4,
        passed_validations=["a"],
        failed_validations=["b", "c"],
        last_pass_percentage=33.5,
        execution_mode="retry",
        outcome_data=FREE_FORM,
        confidence_score=0.75,
        learned_patterns=["p"],
        similar_outcomes_count=5,
        success_without_retry=True,
        outcome_category="flaky",
        model="m-1",
        input_tokens=1000,
        output_tokens=200,
        estimated_cost=0.125,
        extra={"agent": {"name": "x"}},
    )


def full_status() -> m.DaemonStatus:
    """A status with a value of its own in every field."""
    return m.DaemonStatus(
        pid=1,
        version="0.1.0",
        uptime_seconds=1.5,
        socket="/s",
        database="/d",
        database_bytes=2,
        wal_bytes=3,
        durability="full",
        schema_version=5,
        clients=4,
        jobs={"running": 5},
        writes=6,
        commits=7,
        last_checkpoint_at=CREATED,
        queued_writes=8,
        queued_bytes=9,
        writes_per_second=10.5,
        commits_per_second=11.5,
        requests=12,
        operations={"load": m.OperationFigures(13, 14, 0.25, 0.5, 0.75, 1.25)},
        errors={"job_not_found": 15},
        limits_reached={"max_in_flight": 16},
        worries=[m.Worry("the disk is nearly full", "make room")],
    )


def full_served_request() -> m.ServedRequest:
    """A request that was answered, with a value of its own in every field."""
    return m.ServedRequest(
        sequence=31,
        at=UPDATED,
        connection_id=3,
        pid=4242,
        uid=1000,
        command="worker",
        dialect="json",
        operation="save_sheet",
        bytes_in=100,
        bytes_out=200,
        duration_seconds=1.75,
        queue_seconds=0.25,
        commit_seconds=0.5,
        reply_seconds=1.0,
        job_id="job",
        sheet_num=2,
        error="job_not_found",
        request="{",
        reply="[",
    )


def full_event() -> m.Event:
    """An event with a value of its own in every field."""
    return m.Event(
        sequence=41,
        at=UPDATED,
        kind="execution",
        job_id="job",
        job_status=JobStatus.RUNNING,
        revision=9,
        last_completed_sheet=1,
        total_sheets=7,
        sheet_num=2,
        sheet_status=SheetStatus.FAILED,
        execution_id=98,
        attempt_num=3,
        exit_code=-11,
        duration_seconds=12.25,
        message="it broke",
    )


def full_job(sheets: dict[int, SheetState] | None = None) -> CheckpointState:
    """A job with a value of its own in every field, `sheets` as given."""
    return CheckpointState(
        job_id="job/1 ✓",
        job_name="A job",
        description="what it does",
        config_hash="abc",
        config_snapshot=FREE_FORM,
        config_path="/etc/job.yaml",
        created_at=CREATED,
        updated_at=UPDATED,
        started_at=CREATED,
        completed_at=UPDATED,
        total_sheets=7,
        last_completed_sheet=1,
        current_sheet=2,
        status=JobStatus.PAUSED_AT_CHAIN,
        sheets=sheets or {},
        pid=4242,
        error_message="stopped",
        total_retry_count=6,
        rate_limit_waits=8,
        revision=9,
        extra={"owner": ["me"]},
    )


def full_failure() -> KeptFailure:
    """A failure with a value in every field."""
    return KeptFailure(2, 1, CREATED, -11, 11, "signal", "crash", "E42", "it broke")


def full_execution() -> KeptExecution:
    """An attempt with a value in every field."""
    return KeptExecution(
        *(2, 1, CREATED, "do it", "done\n", -11, 1.5, {"from": "elsewhere"}, full_failure())
    )


REQUESTS: dict[str, r.Request[Any]] = {
    "hello": m.Hello(1, "a client", "0.1.0", bytes(range(16)), 1024),
    "hello, defaults": m.Hello(1, "a client", "0.1.0"),
    "status": m.Status(),
    "monitor": m.Monitor(["load"], "job", "worker", True, 0.5, 200, 31, 5.0),
    "monitor, defaults": m.Monitor(),
    "slow_log": m.SlowLog(10),
    "list_clients": m.ListClients(),
    "kill_client": m.KillClient(3),
    "watch": m.Watch("job", 41, 5.0),
    "watch, defaults": m.Watch(),
    "load": m.Load("job", 5),
    "load, defaults": m.Load("job"),
    "save": m.Save(full_job(), [full_sheet()], base=17, removed=[3, 4], if_revision=9),
    "save, defaults": m.Save(
        CheckpointState(job_id="job", total_sheets=1, created_at=CREATED, updated_at=UPDATED), []
    ),
    "start_backup": m.StartBackup(),
    "read_backup": m.ReadBackup("0123456789abcdef", 1_048_576),
    "start_export": m.StartExport(["job"]),
    "start_import": m.StartImport(),
    "write_import": m.WriteImport("0123456789abcdef", 6, b"format"),
    "import_jobs": m.ImportJobs("0123456789abcdef", ["job"], replace=True, after=1),
    "import_jobs, defaults": m.ImportJobs("0123456789abcdef"),
    "export_history": m.ExportHistory("job", 17, unrecorded=True),
    "export_history, defaults": m.ExportHistory("job"),
    "import_job": m.ImportJob(full_job(), [full_sheet()], replace=True),
    "import_history": m.ImportHistory("job", 1, [full_execution()], [full_failure()]),
    "import_history, defaults": m.ImportHistory("job", 0, [KeptExecution(2, 1, CREATED)]),
    "delete": m.Delete("job"),
    "list_jobs": m.ListJobs(12),
    "query_jobs": m.QueryJobs(JobStatus.FAILED, CREATED, 10, "job", "2026-03-01T00:00:00+00:00"),
    "query_jobs, defaults": m.QueryJobs(),
    "get_job_statistics": m.GetJobStatistics("job"),
    "get_next_sheet": m.GetNextSheet("job"),
    "mark_sheet_status": m.MarkSheetStatus("job", 2, SheetStatus.RETRY_SCHEDULED, "later"),
    "save_sheet": m.SaveSheet("job", full_sheet()),
    "save_sheet, defaults": m.SaveSheet("job", SheetState(sheet_num=1)),
    "claim_next_sheet": m.ClaimNextSheet("job", 3),
    "record_execution": m.RecordExecution("job", 2, 1, "do it", "done\n", 0, 1.5),
    "record_execution, defaults": m.RecordExecution("job", 2, 1),
    "get_execution_history": m.GetExecutionHistory("job", 2, 10, 99),
    "get_execution_history, defaults": m.GetExecutionHistory("job"),
    "get_execution_history_count": m.GetExecutionHistoryCount("job", 2),
    "get_overview": m.GetOverview("job", "night*", CREATED, UPDATED),
    "get_overview, defaults": m.GetOverview(),
    "get_durations": m.GetDurations("job", "night*", CREATED, UPDATED, 10),
    "get_durations, defaults": m.GetDurations(),
    "get_errors": m.GetErrors("job", "night*", CREATED, UPDATED, 10),
    "get_errors, defaults": m.GetErrors(),
    "get_validations": m.GetValidations("job", "night*", CREATED, UPDATED, 10),
    "get_validations, defaults": m.GetValidations(),
    "get_outcomes": m.GetOutcomes("job", "night*", CREATED, UPDATED, 10),
    "get_outcomes, defaults": m.GetOutcomes(),
    "get_timeline": m.GetTimeline("job", "night*", CREATED, UPDATED, "day"),
    "get_timeline, defaults": m.GetTimeline(),
    "get_learned_patterns": m.GetLearnedPatterns("né*", 2, 10, 7, "né"),
    "get_learned_patterns, defaults": m.GetLearnedPatterns(),
    "find_similar_outcomes": m.FindSimilarOutcomes("crash", "E42", -11, "it broke", 5),
    "find_similar_outcomes, defaults": m.FindSimilarOutcomes(),
    "search_executions": m.SearchExecutions('"timed out" -retry', "job", 10, -1.5, 98, 7),
    "search_executions, defaults": m.SearchExecutions("refused"),
    "preview_prune": m.PreviewPrune(UPDATED, 3, [JobStatus.COMPLETED, JobStatus.FAILED], None, "a"),
    "preview_prune, by bytes": m.PreviewPrune(max_bytes=1_000_000),
    "prune": m.Prune(["a", "job"], UPDATED, 3, [JobStatus.COMPLETED], False, 2),  # as on the wire
    "prune, defaults": m.Prune(["job"], UPDATED),
    "shrink": m.Shrink(),
}

REPLIES: dict[str, tuple[type[r.Request[Any]], Any]] = {
    "hello": (m.Hello, m.Welcome(1, "jobkeepd", "0.1.0", 1, 33554432, 64)),
    "status": (
        m.Status,
        m.DaemonStatus(
            pid=1,
            version="0.1.0",
            uptime_seconds=1.5,
            socket="/s",
            database="/d",
            database_bytes=2,
            wal_bytes=3,
            durability="full",
            schema_version=5,
            clients=4,
            jobs={"running": 5},
            writes=6,
            commits=7,
        ),
    ),
    "status, all fields": (m.Status, full_status()),
    "monitor": (m.Monitor, m.MonitorPage([full_served_request()], 32, 5)),
    "monitor, nothing": (m.Monitor, m.MonitorPage([], 32)),
    "slow_log": (m.SlowLog, [full_served_request()]),
    "list_clients": (
        m.ListClients,
        [
            m.ConnectedClient(
                connection_id=3,
                pid=4242,
                uid=1000,
                gid=1001,
                command="worker",
                role="write",
                dialect="binary",
                name="jobkeep",
                version="0.1.0",
                connected_seconds=60.5,
                idle_seconds=1.5,
                requests=7,
                in_flight=2,
                bytes_in=100,
                bytes_out=200,
                last_operation="load",
                claims=1,
                unsent_bytes=300,
            )
        ],
    ),
    "kill_client": (m.KillClient, True),
    "watch": (m.Watch, m.EventsPage([full_event()], 41)),
    "watch, nothing": (m.Watch, m.EventsPage([], 41)),
    "load": (m.Load, m.Loaded(full_job(), [full_sheet()], 17, more=True)),
    "load, further page": (m.Load, m.Loaded(None, [], 17)),
    "load, unknown job": (m.Load, None),
    "save": (m.Save, m.Saved(10, UPDATED, 18)),
    "save, base is outdated": (m.Save, None),
    "start_backup": (m.StartBackup, "0123456789abcdef"),
    "read_backup": (m.ReadBackup, m.BackupPiece(b"SQLite", more=True)),
    "start_export": (m.StartExport, "0123456789abcdef"),
    "start_import": (m.StartImport, "0123456789abcdef"),
    "write_import": (m.WriteImport, 12),
    "import_jobs": (
        m.ImportJobs,
        ImportStep(
            [ImportedJob("job", "imported", 3), ImportedJob("jöb", "skipped", why="no")], True
        ),
    ),
    "export_history": (
        m.ExportHistory,
        KeptHistory([full_execution()], [full_failure()], 17, more=True),
    ),
    "import_job": (m.ImportJob, ImportBegun(3)),
    "import_job, skipped": (m.ImportJob, ImportBegun(None, "there is one")),
    "import_history": (m.ImportHistory, 4),
    "delete": (m.Delete, True),
    "list_jobs": (m.ListJobs, m.StatesPage([m.Loaded(full_job(), [], 17)], 17)),
    "list_jobs, last page": (m.ListJobs, m.StatesPage([])),
    "query_jobs": (
        m.QueryJobs,
        m.JobsPage(
            [
                {
                    "id": "job",
                    "name": "A job",
                    "status": "failed",
                    "total_sheets": 7,
                    "last_completed_sheet": 1,
                    "created_at": "2026-03-01T12:30:45.123456+00:00",
                    "updated_at": "2026-03-01T12:31:00.000001+00:00",
                    "completed_at": None,
                    "error_message": "stopped",
                }
            ],
            more=True,
        ),
    ),
    "get_job_statistics": (
        m.GetJobStatistics,
        {
            "total_sheets": 7,
            "completed_sheets": 1,
            "success_rate": 12.5,
            "total_retries": 6,
            "total_executions": 3,
            "successful_executions": 2,
            "avg_duration_seconds": 1.5,
        },
    ),
    "get_job_statistics, unknown job": (m.GetJobStatistics, None),
    "get_next_sheet": (m.GetNextSheet, 2),
    "mark_sheet_status": (m.MarkSheetStatus, None),
    "save_sheet": (m.SaveSheet, 11),
    "claim_next_sheet": (m.ClaimNextSheet, 3),
    "record_execution": (m.RecordExecution, 123456),
    "get_execution_history": (
        m.GetExecutionHistory,
        m.HistoryPage(
            [
                {
                    "id": 98,
                    "job_id": "job",
                    "sheet_num": 2,
                    "attempt_num": 1,
                    "prompt": "do it",
                    "output": None,
                    "exit_code": 0,
                    "duration_seconds": 1.5,
                    "executed_at": "2026-03-01T12:31:00.000001+00:00",
                }
            ]
        ),
    ),
    "get_execution_history_count": (m.GetExecutionHistoryCount, 3),
    "get_overview": (
        m.GetOverview,
        reports.Overview(
            jobs={"completed": 3, "failed": 1},
            job_success_rate=75.0,
            sheets_total=20,
            sheets_completed=16,
            sheets_failed=4,
            sheets_skipped=1,
            sheet_success_rate=80.0,
            span_seconds=7200.5,
            sheets_per_hour=8.25,
            executions=24,
            executions_successful=18,
            execution_success_rate=90.0,
            failures=5,
            retries=6,
            input_tokens=1000,
            output_tokens=200,
            estimated_cost=0.125,
        ),
    ),
    "get_durations": (
        m.GetDurations,
        reports.Durations(
            *(3, 7.5, 2.5, 2.0, 4.5, 4.75, 5.0),
            jobs=[reports.JobDurations(3, 7.5, 2.5, 2.0, 4.5, 4.75, 5.0, "job")],
            sheets=[reports.SheetDurations(3, 7.5, 2.5, 2.0, 4.5, 4.75, 5.0, 2)],
            slowest=[reports.SlowExecution(98, "job", 2, 1, UPDATED, 0, 5.0)],
        ),
    ),
    "get_durations, nothing": (
        m.GetDurations,
        reports.Durations(0, 0.0, None, None, None, None, None, [], [], []),
    ),
    "get_errors": (
        m.GetErrors,
        reports.Errors(
            5,
            [
                reports.ErrorGroup(
                    *("crash", "E42", -11, 11, 5, 2, CREATED, UPDATED),
                    example=reports.FailureExample("job", 2, 3, UPDATED, "it broke"),
                )
            ],
        ),
    ),
    "get_validations": (
        m.GetValidations,
        reports.Validations(3, 1, [reports.RuleFigures("a", 3, 1, 75.0)]),
    ),
    "get_outcomes": (
        m.GetOutcomes,
        reports.Outcomes(5, 2, [reports.OutcomeFigures("flaky", 5, 3, 1, 2)]),
    ),
    "get_timeline": (
        m.GetTimeline,
        reports.Timeline("day", [reports.TimelineBucket(CREATED, 4, 2, 1, 1.5, 3, 1, 2)]),
    ),
    "get_learned_patterns": (
        m.GetLearnedPatterns,
        m.PatternsPage(
            [
                LearnedPattern(
                    pattern="né",
                    sheets=7,
                    jobs=2,
                    job_ids=["job"],
                    completed=3,
                    failed=1,
                    success_rate=75.0,
                    success_rate_without=12.5,
                    mean_confidence=0.625,
                    first_seen_at=CREATED,
                    last_seen_at=UPDATED,
                )
            ],
            more=True,
        ),
    ),
    "get_learned_patterns, none": (m.GetLearnedPatterns, m.PatternsPage([])),
    "find_similar_outcomes": (
        m.FindSimilarOutcomes,
        [
            SimilarOutcome(
                job_id="job",
                sheet_num=2,
                attempt_num=1,
                execution_id=98,
                failed_at=CREATED,
                error_category="crash",
                error_code="E42",
                exit_code=-11,
                exit_signal=11,
                error_message="it broke",
                next_outcome="completed",
                attempts_after=3,
                completed_at=UPDATED,
            )
        ],
    ),
    "preview_prune": (
        m.PreviewPrune,
        m.PrunePage([PrunedJob("job", True, 98, 7, 123_456)], UPDATED, "job"),  # as on the wire
    ),
    "preview_prune, last page": (m.PreviewPrune, m.PrunePage([])),
    "prune": (m.Prune, m.PruneStep(1, 98, 7, 123_456, 0, 4)),
    "shrink": (m.Shrink, m.Shrunk(262_144, more=True)),
    "search_executions": (
        m.SearchExecutions,
        SearchPage(
            [
                SearchHit(
                    job_id="job",
                    sheet_num=2,
                    attempt_num=1,
                    execution_id=98,
                    failure_id=7,
                    field="error_message",
                    snippet="…it timed out",
                    marks=[Mark(4, 13)],
                    rank=-1.5,
                    at=CREATED,
                    exit_code=1,
                )
            ],
            complete=True,
            more=True,
        ),
    ),
}

ERRORS: dict[str, JobkeepError] = {
    code: kind(f"about {code}", {"field": "limit", "maximum": 5})
    for code, kind in ERRORS_BY_CODE.items()
}
