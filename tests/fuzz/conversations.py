"""The conversations that are spoilt: what real clients say to a daemon.

What lives here: `Conversation`, those of the examples of every message, and the recording of one.
What may not: spoiling them. A conversation in another dialect is one more function.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from jobkeep import Client, JobNotFound
from jobkeep_protocol.codec import encode_error, encode_reply, encode_request
from jobkeep_protocol.messages import HELLO_ID, SLOTS, Hello
from jobkeep_protocol.request import Request, Stream
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.varlink import INTERFACE, SERVICE, to_json
from tests.client.proxy import Proxy
from tests.fuzz.dialects import FRAMES, JSON, Dialect
from tests.protocol.examples import ERRORS, REPLIES, REQUESTS, full_job, full_sheet

RECORDED_JOB = "recorded job"


class Conversation(Struct, frozen=True):
    """What one side says, message by message."""

    dialect: Dialect
    messages: list[bytes]
    client_id: bytes = b""
    """By what the daemon knows the client, if it is in the messages."""

    def by_another_client(self, random: Random) -> list[bytes]:
        """The same messages: from a client that was seen before they would only be answered as
        they were then."""
        if not self.client_id:
            return self.messages
        another = random.randbytes(len(self.client_id))
        return [message.replace(self.client_id, another) for message in self.messages]


def of_all_requests() -> Conversation:
    """Every example of a request, behind a hello."""
    hello = REQUESTS["hello"]
    assert isinstance(hello, Hello)
    messages = [encode_request(number, one) for number, one in enumerate([hello, *_but_hellos()])]
    return Conversation(FRAMES, messages, hello.client_id)


def of_all_calls() -> Conversation:
    """The same in JSON, and what only that dialect has."""
    calls = [
        {"method": f"{SERVICE}.GetInfo"},
        *[_call_of(request) for request in _but_hellos()],
        {"method": f"{SERVICE}.GetInterfaceDescription", "parameters": {"interface": INTERFACE}},
        {"method": f"{INTERFACE}.ListJobs", "parameters": {"after": 0}, "more": True},
        {"method": f"{INTERFACE}.GetNextSheet", "parameters": {"job_id": "job"}, "oneway": True},
        {"method": f"{INTERFACE}.Status", "upgrade": False, "com.example": {"x": [1]}},
    ]
    return Conversation(JSON, [JSON.encode(call) for call in calls])


def _call_of(request: Request[Any]) -> dict[str, Any]:
    parameters = msgspec.Raw(to_json(request))
    return {"method": f"{INTERFACE}.{type(request).__name__}", "parameters": parameters}


def _but_hellos() -> list[Request[Any]]:
    """Every other example of a request. Those that wait for something new do not wait."""
    return [
        replace(request, wait_seconds=0.0) if isinstance(request, Stream) else request
        for request in REQUESTS.values()
        if not isinstance(request, Hello)
    ]


def requests_of_replies() -> list[Request[Any]]:
    """A request for each example of a reply, in the same order."""
    by_kind = {type(request): request for request in REQUESTS.values()}
    return [by_kind[kind] for kind, _ in REPLIES.values()]


def of_all_replies() -> Conversation:
    """Every example of a reply, to a client that has sent `requests_of_replies`."""
    return _answering(
        encode_reply(SLOTS + slot, reply) for slot, (_, reply) in enumerate(REPLIES.values())
    )


def of_all_errors() -> Conversation:
    """The same with every example of an error."""
    return _answering(
        encode_error(SLOTS + slot, error) for slot, error in enumerate(ERRORS.values())
    )


def _answering(replies: Iterable[bytes]) -> Conversation:
    return Conversation(FRAMES, [encode_reply(HELLO_ID, REPLIES["hello"][1]), *replies])


def recorded(daemon: Path, directory: Path) -> Conversation:
    """What a client says that calls all there is to call."""
    with Proxy(directory, daemon) as proxy:
        with Client(proxy.path) as client:
            _work(client)
        (sent,) = proxy.sent
    messages = FRAMES.split(bytes(sent))
    hello = FRAMES.decode(messages[0])
    return Conversation(FRAMES, messages, hello[1][4])


def _work(client: Client[CheckpointState]) -> None:
    """A job from its beginning to its end, with everything that can be asked about it."""
    state = full_job({number: _sheet(number) for number in range(1, 6)})
    state.job_id, state.pid = RECORDED_JOB, None
    client.save(state)
    state.sheets[2].error_message = "changed"
    del state.sheets[4]
    client.save(state, if_revision=state.revision)
    client.save_sheet(RECORDED_JOB, _sheet(6))
    for status in ("in_progress", "failed", "completed", "skipped", "fermata"):
        client.mark_sheet_status(RECORDED_JOB, 3, status, f"it is {status}")
    while client.claim_next_sheet(RECORDED_JOB, max_attempts=9) is not None:
        client.record_execution(RECORDED_JOB, 3, 1, "do it", "done " * 1_000, 0, 1.5)
    client.load(RECORDED_JOB)
    client.get_next_sheet(RECORDED_JOB)
    client.get_execution_history(RECORDED_JOB, 3, limit=2)
    client.get_execution_history_count(RECORDED_JOB)
    client.get_job_statistics(RECORDED_JOB)
    client.query_jobs("running", since=state.created_at, limit=1)
    client.list_jobs()
    with pytest.raises(JobNotFound):
        client.mark_sheet_status("unknown", 1, "completed")
    client.delete(RECORDED_JOB)


def _sheet(number: int) -> SheetState:
    sheet = full_sheet()
    sheet.sheet_num = number
    return sheet
