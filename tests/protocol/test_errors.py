"""Errors: a stable code each, the builtin they also are, and the way over the wire."""

from __future__ import annotations

import pickle

import pytest

from jobkeep_protocol import errors
from jobkeep_protocol.errors import ERRORS_BY_CODE, JobkeepError, JobNotFound, error_from_wire

CODES_AND_KINDS: list[tuple[str, type[JobkeepError], type[Exception]]] = [
    ("internal_error", errors.JobkeepError, Exception),
    ("job_not_found", errors.JobNotFound, ValueError),
    ("invalid_request", errors.InvalidRequest, ValueError),
    ("revision_conflict", errors.RevisionConflict, JobkeepError),
    ("permission_denied", errors.PermissionDenied, PermissionError),
    ("daemon_unavailable", errors.DaemonUnavailable, ConnectionError),
    ("request_timeout", errors.RequestTimeout, TimeoutError),
    ("limit_exceeded", errors.LimitExceeded, JobkeepError),
    ("storage_error", errors.StorageError, JobkeepError),
    ("protocol_error", errors.ProtocolError, JobkeepError),
]


def test_codes_are_these_and_no_others() -> None:
    assert {code: kind for code, kind, _ in CODES_AND_KINDS} == ERRORS_BY_CODE


@pytest.mark.parametrize(("code", "kind", "also"), CODES_AND_KINDS)
def test_error_can_be_caught_as_ours_and_as_the_builtin(
    code: str, kind: type[JobkeepError], also: type[Exception]
) -> None:
    assert kind.code == code
    assert issubclass(kind, JobkeepError)
    assert issubclass(kind, also)


@pytest.mark.parametrize("kind", ERRORS_BY_CODE.values())
def test_error_keeps_message_and_data(kind: type[JobkeepError]) -> None:
    error = kind("what to do next", {"limit": 5})

    assert (str(error), error.data) == ("what to do next", {"limit": 5})
    assert kind("no data").data == {}


@pytest.mark.parametrize("kind", ERRORS_BY_CODE.values())
def test_error_survives_the_wire_and_pickle(kind: type[JobkeepError]) -> None:
    error = kind("what to do next", {"limit": 5})

    for copy in (
        error_from_wire(error.code, str(error), error.data),
        pickle.loads(pickle.dumps(error)),  # noqa: S301 # what we pickled ourselves
    ):
        assert type(copy) is kind
        assert (str(copy), copy.data) == (str(error), error.data)


def test_code_of_a_newer_daemon_gives_the_base_class() -> None:
    error = error_from_wire("out_of_tea", "no tea", {"cups": 0})

    assert type(error) is JobkeepError
    assert str(error) == "no tea (error code 'out_of_tea' of a newer daemon)"
    assert error.data == {"cups": 0}


def test_unknown_job_is_named_in_the_words_that_callers_match_on() -> None:
    error = JobNotFound.named("a/b")

    assert str(error).startswith("No state found for job 'a/b'")
    assert error.data == {"job_id": "a/b"}
