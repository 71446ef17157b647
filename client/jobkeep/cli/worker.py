"""A worker of `jobkeep run`: claims sheets, runs the command for each, and says what came of it.

What lives here: the process that a runner starts as `python -m jobkeep.cli.worker`. What may not:
deciding which sheets there are (that is `plan`), and starting workers (that is `runner`).

A worker that is to stop, or whose runner is gone, kills its command and ends itself with the sheet
still claimed. The daemon then makes the sheet pending again, and it alone can: it knows whether
the claim is still this process's, which may have been stopped for long.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from typing import NoReturn

from jobkeep.cli.attempt import Attempt, StopRequest, run_command
from jobkeep.cli.dialogue import (
    PATIENCE_SECONDS,
    Broken,
    Claimed,
    Done,
    Event,
    Failed,
    Parameters,
    Retrying,
    line,
    read_parameters,
    read_sheet,
)
from jobkeep.cli.plan import command_of
from jobkeep.client import Client
from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus, utc_now

STOPPED = "[jobkeep: stopped before its end, since the run was]\n"


class Stopped(Exception):
    """The worker is to stop, or its runner is gone."""


class Worker:
    """Does sheets of one job until there is none to claim."""

    def __init__(
        self, parameters: Parameters, client: Client[CheckpointState], stop: StopRequest
    ) -> None:
        self._job_id = parameters.job_id
        self._template = parameters.command
        self._attempts = parameters.attempts
        self._client = client
        self._stop = stop

    def run(self) -> None:
        """Work until there is nothing to claim. Raises Stopped and JobkeepError."""
        while not self._stop.is_made:
            number = self._client.claim_next_sheet(self._job_id)
            if number is None:
                return
            _say(Claimed(number))
            self._do(read_sheet(_hear()))
        raise Stopped

    def _do(self, sheet: SheetState) -> None:
        command = command_of(self._template, sheet)
        for remaining in reversed(range(self._attempts)):
            if self._stop.is_made:
                raise Stopped
            attempt = run_command(command, self._stop)
            self._record(sheet.sheet_num, command, attempt)
            if attempt.was_stopped:
                raise Stopped
            if attempt.has_succeeded:
                self._complete(sheet, attempt)
                return
            if remaining:
                self._begin_again(sheet, attempt)
        self._fail(sheet, attempt)

    def _record(self, number: int, command: list[str], attempt: Attempt) -> None:
        # Counted at the end of the attempt and not at its beginning: by then the runner has
        # recorded the attempt of a worker that died with this sheet.
        count = self._client.get_execution_history_count(self._job_id, number)
        self._client.record_execution(
            self._job_id,
            number,
            count + 1,
            prompt=shlex.join(command),
            output=attempt.output + (STOPPED if attempt.was_stopped else ""),
            exit_code=None if attempt.was_stopped else attempt.exit_code,
            duration_seconds=attempt.duration_seconds,
        )

    def _begin_again(self, sheet: SheetState, attempt: Attempt) -> None:
        number = sheet.sheet_num
        self._client.mark_sheet_status(self._job_id, number, SheetStatus.IN_PROGRESS)
        sheet.attempt_count += 1
        sheet.started_at = utc_now()
        _say(Retrying(number, attempt.message()))

    def _complete(self, sheet: SheetState, attempt: Attempt) -> None:
        # What marking does not know goes first: a sheet that is completed has all of it.
        _keep_outcome(sheet, attempt)
        sheet.success_without_retry = sheet.attempt_count == 1
        self._client.save_sheet(self._job_id, sheet)
        self._client.mark_sheet_status(self._job_id, sheet.sheet_num, SheetStatus.COMPLETED)
        _say(Done(sheet.sheet_num))

    def _fail(self, sheet: SheetState, attempt: Attempt) -> None:
        # Here it goes last, since marking a sheet failed clears what is known of an exit.
        message = attempt.message()
        self._client.mark_sheet_status(self._job_id, sheet.sheet_num, SheetStatus.FAILED, message)
        _keep_outcome(sheet, attempt)
        sheet.status = SheetStatus.FAILED
        sheet.error_message = message
        sheet.completed_at = utc_now()
        self._client.save_sheet(self._job_id, sheet)
        _say(Failed(sheet.sheet_num, message))


def _keep_outcome(sheet: SheetState, attempt: Attempt) -> None:
    sheet.exit_code = attempt.exit_code
    sheet.exit_signal = attempt.exit_signal
    sheet.execution_duration_seconds = attempt.duration_seconds


def _say(event: Event) -> None:
    try:
        sys.stdout.buffer.write(line(event))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise Stopped from None


def _hear() -> bytes:
    received = sys.stdin.buffer.readline()
    if not received.endswith(b"\n"):
        raise Stopped
    return received


def _end_group() -> NoReturn:
    """End this process and whatever its command has left, none of which can be ignored."""
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("nobody survives SIGKILL")


def main() -> None:
    """Be a worker: parameters on standard input, events on standard output."""
    stop = StopRequest(sys.stdin.fileno())
    try:
        parameters = read_parameters(_hear())
        with Client(parameters.socket, timeout=PATIENCE_SECONDS) as client:
            Worker(parameters, client, stop).run()
    except Stopped:
        _end_group()
    except JobkeepError as error:
        with contextlib.suppress(Stopped):
            _say(Broken(error.code, str(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
