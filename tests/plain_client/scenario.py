"""What the client is put through: run in a process of its own that can import nothing else.

It talks to whoever started it: it prints ``restart`` and waits for a line when the daemon is to be
killed and started again.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from .client import Client, DaemonError, Watcher, history, load
from .json_dialect import JsonClient, JsonError

ErrorT = TypeVar("ErrorT", bound=Exception)

SIGNS = ((1, -1), (1, 0), (-1, 0), (-1, -1))
STARTED = datetime(2026, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)
VALUES: list[Any] = [
    *(1.5, True, False, None, {}, {"key": [[]]}),
    *(sign * (1 << bits) + one for bits in (5, 7, 8, 15, 16, 31, 32, 62) for sign, one in SIGNS),
    *("é" * length for length in (0, 15, 16, 127, 128, 40_000)),
    *([0] * length for length in (15, 16, 70_000)),
    {f"{number}": number for number in range(16)},
]
"""Values on both sides of each place where msgpack has another form."""


def run(path: str) -> None:
    """Raises ``AssertionError`` for what is not as docs/protocol.md says."""
    client = Client(path)
    assert client.welcome.name == "jobkeepd"
    watcher = Watcher(client)
    watcher.page(wait_seconds=0.0)
    save_and_load(client)
    work(client)
    refuse(client)
    send_again(client, path)
    watch(watcher)
    load_in_pages(client)
    client.close()
    speak_json(path, b"\n")
    speak_json(path, b"\0")
    stream_json(path)


def save_and_load(client: Client) -> None:
    """A whole state, and then what changed."""
    state = {"job_id": "plain ✓", "total_sheets": 4, "extra": {"by": "hand", "none": None}}
    sheets = [{"sheet_num": number, "model": f"m-{number}"} for number in (1, 2, 3)]
    revision, _, sequence = client.call("save", state, sheets)[:3]
    assert revision == 1
    changed = {"sheet_num": 2, "started_at": STARTED, "outcome_data": {"of every size": VALUES}}
    kept = loaded(client, "plain ✓")[0]
    revision, _, following = client.call("save", kept, [changed], sequence, [3])[:3]
    assert (revision, following > sequence) == (2, True)
    assert client.call("save", kept, [], sequence) is None, "the kept job has moved on"

    state, kept_sheets, at = loaded(client, "plain ✓")
    assert (state["extra"], state["revision"], at) == ({"by": "hand", "none": None}, 2, following)
    assert sorted(kept_sheets) == [1, 2]
    assert kept_sheets[2]["outcome_data"] == changed["outcome_data"]
    assert kept_sheets[2]["started_at"] == STARTED
    assert load(client, "unknown") is None


def load_in_pages(client: Client) -> None:
    """A job that no frame has room for, and that is removed again."""
    text = "x" * 17_000_000
    client.call("save", {"job_id": "big", "total_sheets": 2, "extra": {"": text}}, [])
    client.call("save_sheet", "big", {"sheet_num": 1, "extra": {"": text}})
    client.call("save_sheet", "big", {"sheet_num": 2})
    _, page, _, more = client.call("load", "big")[:4]
    assert (page, more) == ([], True), "the first page has room for the job alone"

    state, sheets, _ = loaded(client, "big")
    assert state["extra"] == sheets[1]["extra"] == {"": text}
    assert sorted(sheets) == [1, 2]
    assert client.call("delete", "big") is True
    assert client.call("delete", "big") is False


def loaded(client: Client, job_id: str) -> tuple[dict[str, Any], dict[int, dict[str, Any]], int]:
    """A job that is there."""
    found = load(client, job_id)
    assert found is not None, f"{job_id} is not kept"
    return found


def work(client: Client) -> None:
    """Claims, attempts, and what comes of them."""
    assert client.call("claim_next_sheet", "plain ✓") == 1
    ids = [
        client.call("record_execution", "plain ✓", 1, attempt, "p", "o" * 270_000, attempt, 0.5)
        for attempt in (1, 2, 3)
    ]
    client.call("mark_sheet_status", "plain ✓", 1, "completed")
    assert client.call("get_next_sheet", "plain ✓") == 2
    assert client.call("get_execution_history_count", "plain ✓") == 3
    records = list(history(client, "plain ✓", page=2))
    assert [record["id"] for record in records] == ids[::-1]
    assert records[0]["output"] == "o" * 270_000
    jobs, more = client.call("query_jobs", "running")[:2]
    assert ([job["id"] for job in jobs], more) == (["plain ✓"], False)
    status = client.call("status")
    assert status["jobs"] == {"running": 1}


def refuse(client: Client) -> None:
    """Errors have codes, and data."""
    for code, data, request in (
        ("job_not_found", {"job_id": "unknown"}, ["save_sheet", "unknown", {"sheet_num": 1}]),
        ("invalid_request", None, ["load", ""]),
        ("invalid_request", None, ["nonsense"]),
        ("revision_conflict", None, ["save", {"job_id": "j", "total_sheets": 1}, [], None, [], 7]),
    ):
        error = refusal(DaemonError, client.call, *request)
        assert error.code == code, error
        assert data is None or error.data == data, error


def refusal(
    kind: type[ErrorT], call: Callable[..., object], *fields: object, **parameters: object
) -> ErrorT:
    """The error that a call ends with."""
    try:
        reply = call(*fields, **parameters)
    except kind as error:
        return error
    raise AssertionError(f"it was answered with {reply}")


def send_again(client: Client, path: str) -> None:
    """A write whose answer is lost with the connection, or with the daemon, is applied once."""
    for is_killed in (False, True):
        before = client.call("get_execution_history_count", "plain ✓")
        request = client.begin("record_execution", "plain ✓", 2, 1, "again")
        wait_for_record(path, before + 1)
        if is_killed:
            ask("restart")
        client.break_off()
        record_id = client.finish(request)
        records = list(history(client, "plain ✓", page=100))
        assert len(records) == before + 1, "applied once"
        assert records[0]["id"] == record_id


def wait_for_record(path: str, count: int) -> None:
    """Somebody else sees that the write was applied, while its reply is still unread."""
    other = Client(path)
    while other.call("get_execution_history_count", "plain ✓") < count:
        time.sleep(0.002)
    other.close()


def watch(watcher: Watcher) -> None:
    """What happened before the restart is not kept; what happens after it is told."""
    (missed, *_) = watcher.page(wait_seconds=0.0)
    assert missed["kind"] == "missed", missed
    watcher.client.call("mark_sheet_status", "plain ✓", 2, "failed", "no luck")
    events = watcher.page()
    assert [(one["kind"], one["sheet_num"], one["sheet_status"]) for one in events] == [
        ("sheet", 2, "failed")
    ]


def speak_json(path: str, ending: bytes) -> None:
    """The same operations, by name."""
    client = JsonClient(path, ending)
    info = client.call("org.varlink.service.GetInfo")
    assert "org.jobkeep" in info["interfaces"]
    client.call(
        "org.jobkeep.Save", state={"job_id": "json", "total_sheets": 1}, sheets=[{"sheet_num": 1}]
    )
    client.oneway("org.jobkeep.MarkSheetStatus", job_id="json", sheet_num=1, status="completed")
    found = client.call("org.jobkeep.Load", job_id="json")["result"]
    assert (found["state"]["status"], found["sheets"][0]["status"]) == ("completed", "completed")
    for name, told, call in (
        ("org.varlink.service.MethodNotFound", {"method": "org.jobkeep.X"}, ("org.jobkeep.X", {})),
        ("org.varlink.service.InvalidParameter", None, ("org.jobkeep.Load", {"job_id": 7})),
        ("org.jobkeep.JobNotFound", None, ("org.jobkeep.ClaimNextSheet", {"job_id": "none"})),
    ):
        error = refusal(JsonError, client.call, call[0], **call[1])
        assert error.name == name, error
        assert told is None or error.parameters == told, error
    client.close()


def stream_json(path: str) -> None:
    """Pages that follow by themselves, with an end and without."""
    client = JsonClient(path)
    pages = list(client.more("org.jobkeep.GetExecutionHistory", job_id="plain ✓", limit=4))
    assert len(pages) > 1, "one has no room for them"
    assert sum(len(page["records"]) for page in pages) == 4
    events = client.more("org.jobkeep.Watch", after=0)
    assert next(events)["events"]
    other = JsonClient(path)
    other.call("org.jobkeep.Delete", job_id="json")
    deleted = [(one["kind"], one["job_id"]) for page in [next(events)] for one in page["events"]]
    assert deleted[-1] == ("deleted", "json")
    client.close()
    other.close()


def ask(line: str) -> None:
    """Have whoever started this do something, and wait until it is done."""
    print(line, flush=True)
    assert sys.stdin.readline(), "whoever started this is gone"
