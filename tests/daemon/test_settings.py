"""Settings: a flag, else a variable, else the file, else the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeepd.limits import Limits
from jobkeepd.settings import Settings, read_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file."""
    path = tmp_path / "jobkeepd.toml"
    path.write_text('db = "/from/file.db"\nlog_level = "debug"\ndurability = "normal"\n')
    return path


def test_defaults_need_nothing() -> None:
    assert read_settings([], {}) == Settings()
    assert Settings() == Settings(
        db="",
        socket="",
        durability="full",
        cache_bytes=32 * 1024 * 1024,
        log_format="auto",
        log_level="info",
    )


def test_flag_comes_before_variable_and_variable_before_file(config: Path) -> None:
    settings = read_settings(
        ["--config", str(config), "--db", "/from/flag.db"],
        {"JOBKEEPD_DB": "/from/variable.db", "JOBKEEPD_LOG_LEVEL": "error", "OTHER": "x"},
    )

    assert settings == Settings(db="/from/flag.db", log_level="error", durability="normal")


def test_file_may_be_named_by_a_variable_and_by_a_flag_before_it(
    config: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('db = "/from/other.db"')
    variable = {"JOBKEEPD_CONFIG": str(config)}

    assert read_settings([], variable).db == "/from/file.db"
    assert read_settings(["--config", str(other)], variable).db == "/from/other.db"


def test_service_reads_the_configuration_in_its_directory_if_there_is_one(
    config: Path, tmp_path: Path
) -> None:
    service = {"CONFIGURATION_DIRECTORY": str(config.parent)}
    assert read_settings([], service).db == "/from/file.db"
    assert read_settings(["--config", "/dev/null"], service) == Settings()

    config.rename(tmp_path / "other.toml")
    assert read_settings([], service) == Settings()

    config.mkdir()
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_settings([], service)


VALUES: dict[str, tuple[str, Any]] = {
    "db": ("/x.db", "/x.db"),
    "socket": ("/x.sock", "/x.sock"),
    "socket_mode": ("0660", "0660"),
    "socket_group": ("people", "people"),
    "admins": ("uid:1,group:x", ("uid:1", "group:x")),
    "writers": ("user:x", ("user:x",)),
    "readers": ("", ()),
    "others": ("none", "none"),
    "unseen_peers": ("allow", "allow"),
    "durability": ("normal", "normal"),
    "search": ("off", "off"),
    "prune_attempts_older_than": ("30d", "30d"),
    "prune_keep_last": ("3", 3),
    "prune_max_bytes": ("1000000", 1_000_000),
    "prune_jobs": ("completed:30d,failed:12w", ("completed:30d", "failed:12w")),
    "cache_bytes": ("1000000", 1_000_000),
    "log_format": ("journal", "journal"),
    "log_level": ("warning", "warning"),
    "idle_seconds": ("0", 0.0),
    **dict.fromkeys(("hello_seconds", "frame_seconds", "read_seconds"), ("1.5", 1.5)),
    "max_frame_bytes": ("5000", 5_000),
    "max_hello_bytes": ("5000", 5_000),
    **{
        name: ("7", 7)
        for name in Limits.__struct_fields__
        if not name.endswith("_seconds") and name not in {"max_frame_bytes", "max_hello_bytes"}
    },
}
"""A value of each setting: as a flag or a variable has it, and as it is understood."""


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_each_setting_has_a_flag_a_variable_and_a_key(tmp_path: Path, name: str) -> None:
    text, value = VALUES[name]
    path = tmp_path / "one.toml"
    path.write_text(f"{name} = {json.dumps(value)}")

    for found in (
        read_settings([f"--{name.replace('_', '-')}", text], {}),
        read_settings([], {f"JOBKEEPD_{name.upper()}": text}),
        read_settings(["--config", str(path)], {}),
    ):
        assert getattr(found, name) == value


def test_value_that_is_not_allowed_is_refused_with_its_source(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('durability = "maybe"')

    for arguments, environment, source in (
        (["--durability", "maybe"], {}, "--durability"),
        ([], {"JOBKEEPD_DURABILITY": "maybe"}, "JOBKEEPD_DURABILITY"),
        (["--config", str(path)], {}, f"{path}: durability"),
    ):
        with pytest.raises(InvalidRequest, match="expected one of full, normal") as refused:
            read_settings(arguments, environment)
        assert str(refused.value).startswith(f"{source} is 'maybe'")


@pytest.mark.parametrize(
    "value", ["done:30d", "failed", "completed:30d,failed:1", "failed:1.5d", "running:1d"]
)
def test_jobs_to_prune_that_are_no_status_and_age_are_refused(value: str) -> None:
    expected = r"--prune-jobs is \[.*; expected a status other than running and an age such as 30d,"
    with pytest.raises(InvalidRequest, match=expected):
        read_settings([f"--prune-jobs={value}"], {})


@pytest.mark.parametrize("value", ["-1", "1.5", "lots", ""])
def test_size_that_is_no_number_of_bytes_is_refused(value: str) -> None:
    expected = f"--cache-bytes is '{value}'; expected a whole number of bytes, 0 or more"
    with pytest.raises(InvalidRequest, match=expected):
        read_settings([f"--cache-bytes={value}"], {})


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--max-in-flight", "65", "a whole number from 1 to 64"),
        ("--max-in-flight", "0", "a whole number from 1 to 64"),
        ("--max-connections", "0", "a whole number, 1 or more"),
        ("--max-frame-bytes", "4095", "a whole number of bytes from 4096 to 33554432"),
        ("--hello-seconds", "0", "a number of seconds above 0"),
        ("--idle-seconds", "-1", "a number of seconds, 0 or more"),
        ("--socket-mode", "rw", 'permissions such as "0660"'),
        ("--prune-attempts-older-than", "30", "an age such as 30d, 12h or 2w, or nothing"),
        ("--prune-keep-last", "-1", "a whole number, 0 or more"),
        ("--others", "root", "one of none, read, write, admin"),
    ],
)
def test_limit_that_is_out_of_its_bounds_is_refused(flag: str, value: str, expected: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{flag} is '{value}'; expected {expected}"):
        read_settings([f"{flag}={value}"], {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dbb = 1", "unknown key 'dbb'; expected .*db, socket, socket_mode"),
        ("db = 5", "db is 5; expected text"),
        ("db = ", "cannot be read"),
        ("[db]\nx = 1", r"db is \{'x': 1\}"),
    ],
)
def test_file_that_is_not_allowed_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=words) as refused:
        read_settings(["--config", str(path)], {})
    assert str(path) in str(refused.value)


def test_mode_of_the_socket_is_octal() -> None:
    assert Settings().socket_permissions == 0o600
    assert Settings(socket_mode="660").socket_permissions == 0o660


def test_socket_may_be_a_uri() -> None:
    assert Settings(socket="unix:///run/x.sock").socket_path == Path("/run/x.sock")
    assert Settings(socket="/run/x.sock").socket_path == Path("/run/x.sock")


def test_default_places_are_those_of_a_service_then_of_a_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/x")
    assert Settings().database == Path("/home/x/.local/state/jobkeep/state.db")
    assert Settings().socket_path == Path("/run/jobkeep/jobkeep.sock")

    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert Settings().database == Path("/state/jobkeep/state.db")
    assert Settings().socket_path == Path("/run/user/7/jobkeep/jobkeep.sock")

    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/jobkeep:/other")
    assert Settings().database == Path("/var/lib/jobkeep/state.db")
