"""The API of a backend: which methods there are, and which may be left to nobody."""

from __future__ import annotations

import inspect

import pytest

from jobkeep_protocol.backend import StateBackend

METHODS = {
    "load": "job_id",
    "save": "state if_revision",
    "delete": "job_id",
    "list_jobs": "",
    "get_next_sheet": "job_id",
    "mark_sheet_status": "job_id sheet_num status error_message",
    "save_sheet": "job_id sheet",
    "claim_next_sheet": "job_id max_attempts",
    "record_execution": "job_id sheet_num attempt_num prompt output exit_code duration_seconds",
    "get_execution_history": "job_id sheet_num limit before_id",
    "get_execution_history_count": "job_id sheet_num",
    "get_job_statistics": "job_id",
    "query_jobs": "status since limit after",
    "get_overview": "job_id name since until",
    "get_durations": "job_id name since until limit",
    "get_errors": "job_id name since until limit",
    "get_validations": "job_id name since until limit",
    "get_outcomes": "job_id name since until limit",
    "get_timeline": "job_id name since until by",
    "get_learned_patterns": "pattern min_sheets limit",
    "find_similar_outcomes": "error_category error_code exit_code text limit",
    "search_executions": "query job_id limit after",
    "prune": "older_than keep_last status max_bytes dry_run",
    "infer_state_from_artifacts": "job_id workspace artifact_pattern",
    "backup": "path",
    "watch": "job_id after",
    "close": "",
}


@pytest.mark.parametrize(("name", "arguments"), METHODS.items())
def test_method_takes_these_arguments_and_says_what_it_promises(name: str, arguments: str) -> None:
    method = getattr(StateBackend, name)

    assert list(inspect.signature(method).parameters) == ["self", *arguments.split()]
    assert inspect.iscoroutinefunction(method) or name == "watch"
    assert method.__doc__


def test_backend_must_have_every_method() -> None:
    assert StateBackend.__abstractmethods__ == {*METHODS, "supports_execution_history"}
