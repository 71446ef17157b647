"""What is known of the requests that were answered: for the status, the slow log and the monitor.

What lives here: taking one answered request into account. What may not: answering it.

This is on the way of every request, so whatever costs more than counting is left until somebody
wants to see it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from jobkeep_protocol.codec import decode_reply, open_envelope
from jobkeep_protocol.errors import JobkeepError, LimitExceeded
from jobkeep_protocol.messages import Monitor, OperationFigures, ServedRequest
from jobkeep_protocol.request import Request, name_of
from jobkeepd.exchange import Exchange
from jobkeepd.figures import Figures
from jobkeepd.monitor import RequestMonitor
from jobkeepd.slow_requests import SlowRequests

log = logging.getLogger(__name__)

LATELY_SECONDS = 600.0
"""How long a limit that was reached is worth a worry."""


class Accounts:
    """The accounts of one daemon."""

    def __init__(self) -> None:
        self.last = time.time_ns() // 1000
        """The number of the request that was answered last. It starts with the time, so that no two
        lives of a daemon share numbers."""
        self.monitor = RequestMonitor(self.last)
        self.slow = SlowRequests()
        self.errors: Counter[str] = Counter()
        self.limits_reached: Counter[str] = Counter()
        self._limit_reached_at: dict[str, float] = {}
        self._figures: defaultdict[type[Request[Any]], Figures] = defaultdict(Figures)

    @property
    def requests(self) -> int:
        """How many were answered."""
        return sum(figures.requests for figures in self._figures.values())

    def operations(self) -> dict[str, OperationFigures]:
        """The figures of each operation that was asked for."""
        found = {name_of(kind): figures.describe() for kind, figures in self._figures.items()}
        return dict(sorted(found.items()))

    def answered(self, exchange: Exchange, body: bytes, bytes_out: int) -> None:
        """A request was answered with this body."""
        now = time.monotonic()
        kind = type(exchange.request)
        figures = self._figures[kind]
        seconds = now - exchange.received_at
        figures.add(seconds)
        if exchange.error is not None:
            figures.errors += 1
            self.refused(exchange.error)
        if kind is Monitor:
            return  # else it would see itself for ever
        self.last += 1
        if seconds > self.slow.threshold:
            self.slow.add(self._record(exchange, now, bytes_out))
        if self.monitor.is_on:
            record = self._record(exchange, now, bytes_out, body, self.monitor.payloads)
            self.monitor.add(record)
        if log.isEnabledFor(logging.DEBUG):
            _log(exchange, seconds, bytes_out)

    def refused(self, error: JobkeepError) -> None:
        """Something was refused with this error."""
        self.errors[error.code] += 1
        if isinstance(error, LimitExceeded):
            limit = str(error.data.get("limit"))
            self.limits_reached[limit] += 1
            self._limit_reached_at[limit] = time.monotonic()

    def limits_reached_lately(self) -> dict[str, int]:
        """How often each limit was reached that was so not long ago."""
        since = time.monotonic() - LATELY_SECONDS
        lately = [limit for limit, last in self._limit_reached_at.items() if last >= since]
        return {limit: self.limits_reached[limit] for limit in lately}

    def _record(
        self, exchange: Exchange, now: float, bytes_out: int, body: bytes = b"", payloads: int = 0
    ) -> ServedRequest:
        caller, request = exchange.caller, exchange.request
        seconds = now - exchange.received_at
        job_id, sheet_num = subject_of(request)
        return ServedRequest(
            sequence=self.last,
            at=datetime.now(UTC) - timedelta(seconds=seconds),
            connection_id=caller.connection_id,
            pid=caller.peer.pid,
            uid=caller.peer.uid,
            command=caller.command,
            dialect=caller.dialect,
            operation=name_of(type(request)),
            bytes_in=exchange.bytes_in,
            bytes_out=bytes_out,
            duration_seconds=round(seconds, 6),
            queue_seconds=round(exchange.began_at - exchange.received_at, 6),
            commit_seconds=round(exchange.committed_at - exchange.began_at, 6),
            reply_seconds=round(now - exchange.committed_at, 6),
            job_id=job_id,
            sheet_num=sheet_num,
            error=exchange.error.code if exchange.error else None,
            request=_cut(request, payloads) if payloads else None,
            reply=_reply_text(exchange, body, payloads) if payloads else None,
        )


def subject_of(request: Request[Any]) -> tuple[str | None, int | None]:
    """The job and the sheet that a request names."""
    job_id = getattr(getattr(request, "state", request), "job_id", None)
    sheet_num = getattr(getattr(request, "sheet", request), "sheet_num", None)
    return job_id, sheet_num


def _reply_text(exchange: Exchange, body: bytes, characters: int) -> str:
    _, message = open_envelope(body)
    try:
        reply = decode_reply(type(exchange.request), message)
    except JobkeepError as error:
        return str(error)[:characters]
    return _cut(reply, characters)


def _cut(value: Any, characters: int) -> str:
    from jobkeep_protocol.varlink import to_json  # for those who ask for it

    return to_json(value).decode()[:characters]


def fields_of(exchange: Exchange) -> dict[str, Any]:
    """What log lines about a request can be found by."""
    request = exchange.request
    job_id, _ = subject_of(request)
    return {**exchange.caller.peer.fields, "operation": name_of(type(request)), "job": job_id}


def _log(exchange: Exchange, seconds: float, bytes_out: int) -> None:
    """Say how long a request took."""
    fields = {**fields_of(exchange), "duration": round(seconds, 6)}
    log.debug(
        "%s of %s by uid %d, pid %d: %d bytes after %g s",
        fields["operation"],
        "no job" if fields["job"] is None else f"job {fields['job']!r}",
        exchange.caller.peer.uid,
        exchange.caller.peer.pid,
        bytes_out,
        fields["duration"],
        extra=fields,
    )
