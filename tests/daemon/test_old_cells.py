"""Any cells in a file of an earlier tool: after it was opened, each is found, as a value of its
column's type that means the same, or as it was."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.store.connection import open_for_writing
from jobkeepd.store.earlier.cells import as_json
from jobkeepd.store.examine import examine
from jobkeepd.store.guard import admit
from jobkeepd.store.migrations import migrate
from tests.daemon.old_files import VERSIONS, columns, make_old_file
from tests.support import scaled

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STATUSES = ("running", "RUNNING", "JobStatus.FAILED", "in-progress", "completed", "odd", "canceled")
JSON = ("{}", '{"a": [1, null]}', '{"a": 1', "[]", '["x"]', '[{"r": 1}]', "null", "[1]", "5")
TIMES = ("2024-05-01", "2024-05-01 10:00:00", "2024-05-01T10:00:00.5+02:00", "yesterday")
WORDS = ("", "x", "1714557600", "1.5", "-1", "true", "False", "no", " 7 ", "1e3", "NaN", "0")
TEXTS = st.sampled_from((*STATUSES, *JSON, *TIMES, *WORDS))
SPELLINGS = {"canceled": "cancelled"}
YES_OR_NO = {
    **dict.fromkeys(("true", "t", "yes", "y"), True),
    **dict.fromkeys(("false", "f", "no", "n"), False),
}
INTEGERS = st.sampled_from([0, 1, 2, -1, 3, 100, 1714557600, 2**53 + 1, 2**63 - 1, -(2**63)])
FLOATS = st.sampled_from([0.0, 0.5, 1.0, 1.5, -2.5, 1e300, float("inf"), 1714557600.25])
BLOBS = st.sampled_from([b"", b"x", b"running", b"{}", b"\xff\xfe", b"2024-05-01", b"1"])
CELLS = st.one_of(
    TEXTS, INTEGERS, FLOATS, BLOBS, st.none(), st.text(max_size=5).filter(str.isprintable)
)
UNKNOWN = ["priority", "job_name", "extra", "old_file", "sequence", "id"]
LATER = ["input_tokens", "estimated_cost", "error_code"]
IDS = st.sampled_from(["a", "b", "gone", "", None, 5, "5", b"5", b"\xff", "x" * 600])
NUMBERS = st.one_of(st.sampled_from([1, 2, 3, "1", 1.0]), CELLS)


@st.composite
def table_rows(draw: st.DrawFn, table: str, version: int, most: int) -> list[dict[str, Any]]:
    """Rows of a table, each with some of its columns, and some that nobody knows."""
    names = [column.split()[0] for column in columns(table, version)]
    free = [name for name in names if name not in {"id", "job_id", "sheet_num"}]
    others = [
        name for name in UNKNOWN + LATER if name not in names and (table, name) != ("jobs", "id")
    ]
    made = draw(
        st.lists(st.dictionaries(st.sampled_from(free + others), CELLS, max_size=6), max_size=most)
    )
    for row in made:
        if table == "jobs":
            row["id"] = draw(IDS)
            continue
        row["job_id"] = draw(IDS)
        row["sheet_num"] = draw(NUMBERS)
        if table == "execution_history":
            row["id"] = draw(NUMBERS)
    return made


FILES = st.sampled_from(VERSIONS).flatmap(
    lambda version: st.tuples(
        st.just(version),
        table_rows("jobs", version, 3),
        table_rows("sheets", version, 4),
        table_rows("execution_history", version, 3),
    )
)


def kept_in(database: Path) -> dict[str, list[dict[str, Any]]]:
    """What is kept in each table: its rows, each with its `extra` and, by the names of the columns,
    all the cells that were kept as they were."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        attempts = (
            "SELECT history.*, beside.extra FROM execution_history AS history "
            "LEFT JOIN execution_extra AS beside ON execution_id = id"
        )
        selects = {"jobs": "SELECT * FROM jobs", "sheets": "SELECT * FROM sheets"}
        selects["execution_history"] = attempts
        found = {
            table: [dict(row) for row in connection.execute(select)]
            for table, select in selects.items()
        }
    for rows in found.values():
        for row in rows:
            row["extra"] = json.loads(row["extra"] or "{}")
    for row in list(found["jobs"]):
        whole = row["extra"].get("old_file", {}).get("rows", {})
        for table, rows in whole.items():
            found[table] += rows
    return found


def holds(kept: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether each cell of a row is in one that is kept."""
    return all(value is None or has_cell(kept, name, value) for name, value in row.items())


def has_cell(kept: dict[str, Any], name: str, value: Any) -> bool:
    """Whether a cell is in a row that is kept: as it was, or as a value that means the same."""
    extra = kept.get("extra")
    places = [kept]
    if isinstance(extra, dict):
        places += [extra, extra.get("old_file", {}).get("values", {})]
    for place in places:
        if name in place and place[name] == as_json(value):
            return True
    typed = kept.get("success_without_retry" if name == "first_attempt_success" else name)
    is_typed = typed is not None and bool(meanings(value) & meanings(typed))
    return is_typed or means_nothing(value, name)


def means_nothing(value: Any, name: str) -> bool:
    """JSON's `null` is no value, an empty error no error, an empty `extra` neither."""
    written = text_of(value)
    is_empty = (name == "error_message" and written == "") or written == "null"
    return is_empty or (name == "extra" and is_json_object(value))


def is_json_object(value: Any) -> bool:
    """Whether its parts are in `extra` now, each for itself."""
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(json.loads(text_of(value) or ""), dict)
    return False


def meanings(value: Any) -> set[object]:
    """All that a value can mean, so that two of them can be compared."""
    return set(_meanings(value))


def _meanings(value: Any) -> Iterator[object]:
    written = text_of(value)
    if written is None:
        return
    yield written
    word = written.strip().rpartition(".")[2].lower().replace("-", "_")
    word = SPELLINGS.get(word, word)
    yield word
    if word in YES_OR_NO:
        yield float(YES_OR_NO[word])
    with contextlib.suppress(ValueError, OverflowError):
        number = float(written)
        yield number
        for power in (-3, 0, 3, 6):  # the last ones may be too large for a time
            yield EPOCH + timedelta(microseconds=int(Decimal(written).scaleb(power)))
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(written)
        yield moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def text_of(value: Any) -> str | None:
    """A cell as text; None for bytes that are none."""
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
        return None
    return str(value)


def hold_to_everything(version: int, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Make such a file, open it, and look for each row in it."""
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "state.db"
        make_old_file(
            database,
            version,
            rows["jobs"],
            rows["sheets"],
            rows["execution_history"],
            is_loose=True,
        )
        admit(database)
        with closing(
            open_for_writing(database, "normal", DEFAULT_LIMITS.wal_keep_bytes)
        ) as writing:
            migrate(writing)
        problems: list[str] = []
        assert examine(database, problems.append), problems
        kept = kept_in(database)
    for table, those in rows.items():
        for row in those:
            assert any(holds(one, row) for one in kept[table]), (table, row, kept[table])
    event(f"jobs kept: {len(kept['jobs'])}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILES)
def test_every_cell_of_any_file_is_found(file: tuple[int, Any, Any, Any]) -> None:
    version, jobs, sheets, attempts = file
    hold_to_everything(version, {"jobs": jobs, "sheets": sheets, "execution_history": attempts})


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
@settings(max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILES)
def test_every_cell_of_any_of_many_files_is_found(file: tuple[int, Any, Any, Any]) -> None:
    version, jobs, sheets, attempts = file
    hold_to_everything(version, {"jobs": jobs, "sheets": sheets, "execution_history": attempts})
