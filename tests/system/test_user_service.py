"""The service of one user, started by their own systemd."""

from __future__ import annotations

import json

import pytest

from tests.system.machine import Machine

WITHOUT_PAM = "/run/systemd/system/user@.service.d/test.conf"
"""There is nothing in /etc, so no configuration of PAM either."""


@pytest.fixture
def home(machine: Machine) -> tuple[str, ...]:
    """What comes before a command of bob, whose own systemd is running."""
    machine.run("install", "-d", "-o", "bob", "-g", "bob", "/home/bob")
    machine.run("usermod", "--home", "/home/bob", "bob")
    uid = machine.run("id", "-u", "bob").strip()
    machine.write(WITHOUT_PAM, "[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"user@{uid}.service")
    return "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/bob"


def test_service_of_a_user_is_started_by_the_first_connection(
    machine: Machine, home: tuple[str, ...]
) -> None:
    machine.run(*home, "systemctl", "--user", "start", "jobkeep.socket", user="bob")

    status = json.loads(machine.run(*home, "jobkeep", "status", "--json", user="bob"))

    assert status["database"] == "/home/bob/.local/state/jobkeep/state.db"
    pid = machine.run(
        *(*home, "systemctl", "--user", "show", "--value", "--property=MainPID"),
        "jobkeep.service",
        user="bob",
    )
    assert int(pid) == status["pid"]
    lines = machine.run("cat", f"/proc/{status['pid']}/status").splitlines()
    assert "NoNewPrivs:\t1" in lines
    assert "Seccomp:\t2" in lines
