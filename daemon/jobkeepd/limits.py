"""What one peer, one user, or all of them together may take: every limit, declared once.

What lives here: the limits with their defaults, and the refusal of a request that is beyond one.
What may not: counting, waiting and closing (that is done where the thing is that runs out).

Some limits belong to the protocol too, which has the largest value that both sides agree on: these
may be set lower and not higher.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Annotated, Any

from msgspec import Meta, Struct

from jobkeep_protocol.errors import LimitExceeded
from jobkeep_protocol.framing import MAX_FRAME_BYTES, MAX_HELLO_BYTES
from jobkeep_protocol.messages import (
    SLOTS,
    ImportHistory,
    ImportJob,
    Save,
    SaveSheet,
)
from jobkeep_protocol.request import MAX_TEXT_BYTES
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.values import MAX_JOB_ID_BYTES, MAX_JSON_DEPTH

KIB = 1024
MIB = 1024 * KIB


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of a daemon."""

    max_frame_bytes: Annotated[
        int,
        Meta(ge=4 * KIB, le=MAX_FRAME_BYTES, description="the largest message of a peer"),
    ] = MAX_FRAME_BYTES
    max_hello_bytes: Annotated[
        int,
        Meta(ge=KIB, le=MAX_FRAME_BYTES, description="the largest message before a peer's hello"),
    ] = MAX_HELLO_BYTES
    max_text_bytes: Annotated[
        int,
        Meta(ge=0, le=MAX_TEXT_BYTES, description="the largest prompt or output of a record"),
    ] = MAX_TEXT_BYTES
    max_kept_output_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="how much of a longer output is kept, its head and its tail, when it is "
            "recorded; 0 keeps all of it",
        ),
    ] = 0
    max_job_id_bytes: Annotated[
        int, Meta(ge=1, le=MAX_JOB_ID_BYTES, description="the longest id of a job")
    ] = MAX_JOB_ID_BYTES
    max_json_depth: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_JSON_DEPTH,
            description="how deep lists and maps may be nested in free-form fields",
        ),
    ] = MAX_JSON_DEPTH
    max_in_flight: Annotated[
        int,
        Meta(
            ge=1,
            le=SLOTS,
            description="requests of one connection that are worked on at once; no more is read "
            "from it meanwhile",
        ),
    ] = SLOTS
    max_queued_writes: Annotated[
        int, Meta(ge=1, description="writes of all clients that wait for the disk")
    ] = 4_096
    max_queued_bytes: Annotated[
        int, Meta(ge=1, description="how much there may be in the writes that wait for the disk")
    ] = 64 * MIB
    max_connections: Annotated[int, Meta(ge=1, description="connections in all")] = 1_024
    max_connections_per_uid: Annotated[int, Meta(ge=1, description="connections of one user")] = 256
    max_connections_without_hello: Annotated[
        int,
        Meta(
            ge=1,
            description="connections that have not said hello; the one that waits longest makes "
            "room for a new one",
        ),
    ] = 64
    reserved_connections: Annotated[
        int, Meta(ge=0, description="connections, of all, that are kept for root and the owner")
    ] = 8
    max_unsent_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="replies, of all connections, that are not taken; beyond it the user who "
            "has most of them loses the connection with most",
        ),
    ] = 64 * MIB
    max_unsent_bytes_per_connection: Annotated[
        int,
        Meta(ge=1, description="replies not taken above which no more is read from a connection"),
    ] = 256 * KIB
    max_unsent_replies: Annotated[
        int,
        Meta(ge=1, description="the same as a number of replies"),
    ] = 1_000
    max_unfinished_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="messages, of all connections, that have come in part; beyond it the user "
            "who has most of them loses the connection with most",
        ),
    ] = 256 * MIB
    hello_seconds: Annotated[
        float, Meta(gt=0, description="how long a peer may take to say hello")
    ] = 5.0
    frame_seconds: Annotated[
        float, Meta(gt=0, description="how long a message may take from its first byte to its last")
    ] = 10.0
    idle_seconds: Annotated[
        float,
        Meta(ge=0, description="how long a connection may be idle before it is closed; 0 for ever"),
    ] = 0.0
    read_seconds: Annotated[
        float, Meta(gt=0, description="how long one page of an answer may be looked for")
    ] = 5.0
    max_page_rows: Annotated[int, Meta(ge=1, description="rows in one page of an answer")] = 1_000
    max_kept_events: Annotated[
        int, Meta(ge=0, description="events that are kept for those who watch")
    ] = 10_000
    wal_alarm_bytes: Annotated[
        int, Meta(ge=0, description="the length of the write-ahead log that is warned of")
    ] = 64 * MIB
    wal_keep_bytes: Annotated[
        int, Meta(ge=0, description="the length to which the log is cut when it is empty again")
    ] = 16 * MIB


DEFAULT_LIMITS = Limits()


def exceeded(limit: str, maximum: float, what: str, advice: str) -> LimitExceeded:
    """The error for a limit by the name of its setting; `what` says what was beyond it."""
    return LimitExceeded(f"{what}; {advice}", {"limit": limit, "maximum": maximum})


class RequestLimits:
    """The limits of what one request holds, where they are lower than the protocol's own.

    Each of `checks` refuses a request that is beyond one, by raising LimitExceeded.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.checks: list[Callable[[Any], None]] = []
        if limits.max_job_id_bytes < MAX_JOB_ID_BYTES:
            self.checks.append(self._check_job_id)
        if limits.max_text_bytes < MAX_TEXT_BYTES:
            self.checks.append(self._check_texts)
        if limits.max_json_depth < MAX_JSON_DEPTH:
            self.checks.append(self._check_depth)

    def _check_job_id(self, request: Any) -> None:
        holder = request.state if isinstance(request, Save | ImportJob) else request
        size = len(getattr(holder, "job_id", "").encode())
        if size > self._limits.max_job_id_bytes:
            raise exceeded(
                "max_job_id_bytes",
                self._limits.max_job_id_bytes,
                f"job_id has {size} bytes of UTF-8, and {self._limits.max_job_id_bytes} are "
                "allowed here",
                "give a shorter one",
            )

    def _check_texts(self, request: Any) -> None:
        attempts = request.executions if isinstance(request, ImportHistory) else [request]
        for attempt, name in product(attempts, ("prompt", "output")):
            text = getattr(attempt, name, None)
            size = 0 if text is None else len(text.encode())
            if size > self._limits.max_text_bytes:
                raise exceeded(
                    "max_text_bytes",
                    self._limits.max_text_bytes,
                    f"{name} has {size} bytes of UTF-8, and {self._limits.max_text_bytes} are "
                    "allowed here",
                    "keep its head and its tail",
                )

    def _check_depth(self, request: Any) -> None:
        for holder in _holders(request):
            for name in _FREE_FORM & set(holder.__struct_fields__):
                if _is_deeper(getattr(holder, name), self._limits.max_json_depth):
                    raise exceeded(
                        "max_json_depth",
                        self._limits.max_json_depth,
                        f"{name} has more than the {self._limits.max_json_depth} levels of lists "
                        "and maps that are allowed here",
                        "keep it as text",
                    )


_FREE_FORM = {"extra", "config_snapshot", "outcome_data", "validation_details"}


def _holders(request: Any) -> list[CheckpointState | SheetState]:
    """The states that a request carries."""
    if isinstance(request, Save | ImportJob):
        return [request.state, *request.sheets]
    return [request.sheet] if isinstance(request, SaveSheet) else []


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and maps are nested in each other more than so many levels."""
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return False
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inner)
