"""What the status worries about, each caused for real where it can be."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from jobkeep_protocol.errors import LimitExceeded
from jobkeepd import accounts, worries
from jobkeepd.accounts import Accounts
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.worries import Clock, worries_of_files, worries_of_work


def test_without_reason_there_is_no_worry(tmp_path: Path) -> None:
    assert list(worries_of_files(tmp_path, 0, DEFAULT_LIMITS)) == []
    assert list(worries_of_work(0.001, 0.0, {})) == []


def test_long_log_is_a_worry_that_names_who_may_hold_it(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(DEFAULT_LIMITS, wal_alarm_bytes=1024)

    (worry,) = worries_of_files(tmp_path, 3 * 1024 * 1024, limits)

    assert worry.what == "the write-ahead log has 3 MiB"
    assert f"fuser {tmp_path}" in worry.advice


def test_disk_with_little_room_is_a_worry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worries, "LEAST_FREE_SHARE", 1.1)
    monkeypatch.setattr(worries, "LEAST_FREE_BYTES", 2**63)

    (worry,) = worries_of_files(tmp_path, 0, DEFAULT_LIMITS)

    assert worry.what.startswith(f"the disk of {tmp_path} has ")
    assert "make room" in worry.advice


def test_slow_commits_are_a_worry() -> None:
    (worry,) = worries_of_work(0.25, 0.0, {})

    assert worry.what == "a commit takes 250 ms"


def test_clock_that_was_set_is_a_worry(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    told = time.time
    monkeypatch.setattr(time, "time", lambda: told() - 3600)

    (worry,) = worries_of_work(0.0, clock.stepped_seconds, {})

    assert worry.what == "the clock was set by -3600 s since the daemon started"


def test_limit_that_was_reached_is_a_worry_that_names_its_setting() -> None:
    (worry,) = worries_of_work(0.0, 0.0, {"max_connections_per_uid": 3})

    assert worry.what == "the limit max_connections_per_uid was reached, 3 times so far"


def test_limit_is_no_worry_any_more_when_it_was_not_reached_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Accounts()
    made.refused(LimitExceeded("too long", {"limit": "max_text_bytes", "maximum": 1}))
    assert made.limits_reached_lately() == {"max_text_bytes": 1}

    monkeypatch.setattr(accounts, "LATELY_SECONDS", -1.0)

    assert made.limits_reached_lately() == {}
    assert made.limits_reached == {"max_text_bytes": 1}
