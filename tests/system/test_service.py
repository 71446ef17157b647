"""The system service: started by a connection, restarted, watched, reloaded and stopped."""

from __future__ import annotations

from tests.support import wait_until
from tests.system.load import busy_workers, status, wait_until_busy
from tests.system.machine import Machine

SERVICE = "jobkeep.service"
DROP_IN = "/run/systemd/system/jobkeep.service.d/test.conf"
DATABASE = "/var/lib/jobkeep/state.db"
CONFIGURATION = "/etc/jobkeep/jobkeepd.toml"


def is_active(machine: Machine, unit: str = SERVICE) -> bool:
    return machine.try_to("systemctl", "is-active", "--quiet", unit)[0] == 0


def main_pid(machine: Machine) -> int:
    return int(machine.property_of(SERVICE, "MainPID"))


def change_unit(machine: Machine, section: str, line: str) -> None:
    """Have this in the unit when it is started next."""
    machine.write(DROP_IN, f"[{section}]\n{line}\n")
    machine.run("systemctl", "daemon-reload")


def spoil_the_database(machine: Machine) -> None:
    machine.run("install", "-d", "-o", "jobkeep", "-m", "0700", "/var/lib/jobkeep")
    machine.write(DATABASE, "this is no database, and has never been one " * 99)
    machine.run("chown", "jobkeep:", DATABASE)


# -- starting -----------------------------------------------------------------------------------


def test_first_connection_starts_the_service(machine: Machine) -> None:
    assert not is_active(machine)

    found = status(machine)

    assert is_active(machine)
    assert found["pid"] == main_pid(machine)
    assert (found["database"], found["socket"]) == (DATABASE, "/run/jobkeep/jobkeep.sock")
    assert "0 jobs (0 running), " in machine.property_of(SERVICE, "StatusText")


def test_systemd_finds_nothing_to_say_about_the_units(machine: Machine) -> None:
    for kind in ("system", "user"):
        units = [f"/usr/lib/systemd/{kind}/jobkeep.{one}" for one in ("service", "socket")]
        analyze = ("env", "XDG_RUNTIME_DIR=/run", "systemd-analyze", "verify", "--man=no")
        assert "jobkeep" not in machine.run(*analyze, f"--{kind}", *units)


def test_manual_pages_are_found_and_units_are_printed(machine: Machine) -> None:
    printed = machine.run("jobkeepd", "--print-unit", "system/jobkeep.service")

    assert printed == machine.run("cat", "/usr/lib/systemd/system/jobkeep.service")
    assert "ExecStart=/usr/bin/jobkeepd\n" in printed


# -- an end, and another beginning --------------------------------------------------------------


def test_restart_under_load_is_a_pause_for_eight_workers_and_no_error(machine: Machine) -> None:
    with busy_workers(machine):
        for _ in range(3):
            pid = main_pid(machine)
            machine.run("systemctl", "restart", SERVICE)
            assert main_pid(machine) != pid
            wait_until_busy(machine)

    assert machine.property_of(SERVICE, "NRestarts") == "0"
    assert machine.journal("--unit", SERVICE).count("stopped: every write") == 3


def test_kill_under_load_is_a_pause_for_eight_workers_and_no_error(machine: Machine) -> None:
    with busy_workers(machine):
        for times in ("1", "2", "3"):
            machine.run("systemctl", "kill", "--signal=KILL", SERVICE)
            wait_until(lambda times=times: machine.property_of(SERVICE, "NRestarts") == times)  # type: ignore[misc] # mypy infers no lambda with a default
            wait_until_busy(machine)


def test_hang_under_load_is_ended_by_the_watchdog(machine: Machine) -> None:
    change_unit(machine, "Service", "WatchdogSec=1")
    with busy_workers(machine):
        machine.run("kill", "-STOP", str(main_pid(machine)))
        wait_until(lambda: machine.property_of(SERVICE, "NRestarts") == "1")

    assert "watchdog" in machine.journal("--unit", SERVICE, "_PID=1").lower()


def test_database_that_is_not_right_is_said_and_not_tried_again_by_itself(machine: Machine) -> None:
    spoil_the_database(machine)

    machine.try_to("systemctl", "start", SERVICE)

    wait_until(lambda: machine.property_of(SERVICE, "ActiveState") == "failed")
    assert machine.property_of(SERVICE, "ExecMainStatus") == "1"
    assert machine.property_of(SERVICE, "NRestarts") == "0"
    assert is_active(machine, "jobkeep.socket")
    (entry,) = machine.entries("--unit", SERVICE, "SYSLOG_IDENTIFIER=jobkeepd")
    assert entry["PRIORITY"] == "2"
    assert DATABASE in entry["MESSAGE"]

    machine.run("rm", DATABASE)
    assert status(machine)["pid"] == main_pid(machine)


def test_client_that_waits_has_it_tried_until_the_limit_and_reset_failed_begins_anew(
    machine: Machine,
) -> None:
    change_unit(machine, "Unit", "StartLimitBurst=3")
    spoil_the_database(machine)

    assert machine.try_to("jobkeep", "status")[0] == 3

    result = machine.property_of("jobkeep.socket", "Result")
    assert result == "service-start-limit-hit"
    assert len(machine.entries("--unit", SERVICE, "SYSLOG_IDENTIFIER=jobkeepd")) == 3
    machine.run("rm", DATABASE)
    machine.run("systemctl", "reset-failed", SERVICE, "jobkeep.socket")
    machine.run("systemctl", "start", "jobkeep.socket")
    assert status(machine)["pid"] == main_pid(machine)


# -- reload and stop ----------------------------------------------------------------------------


def test_reload_takes_effect_without_a_new_process(machine: Machine) -> None:
    pid = status(machine)["pid"]
    machine.write(CONFIGURATION, "others = 'none'\n")

    machine.run("systemctl", "reload", SERVICE)

    wait_until(lambda: "changed: others" in machine.journal("--unit", SERVICE))
    refused, words = machine.try_to("jobkeep", "jobs", user="alice")
    assert refused == 1
    assert "has no role here" in words
    assert status(machine)["pid"] == pid


def test_reload_of_a_file_that_is_not_right_leaves_the_service_as_it_was(machine: Machine) -> None:
    pid = status(machine)["pid"]
    machine.write(CONFIGURATION, "others = 'nobody'\n")

    machine.run("systemctl", "reload", SERVICE)

    wait_until(lambda: "stays as it was" in machine.property_of(SERVICE, "StatusText"))
    assert machine.entries("--unit", SERVICE, "PRIORITY=3")
    machine.run("jobkeep", "jobs", user="alice")
    assert status(machine)["pid"] == pid


def test_clean_stop_leaves_the_database_alone_and_the_socket_open(machine: Machine) -> None:
    status(machine)

    machine.run("systemctl", "stop", SERVICE)

    assert machine.property_of(SERVICE, "Result") == "success"
    assert machine.property_of(SERVICE, "ExecMainStatus") == "0"
    files = machine.run("ls", "/var/lib/jobkeep").split()
    assert files == ["state.db", "state.db.lock"]
    assert is_active(machine, "jobkeep.socket")
    status(machine)
    assert is_active(machine)


def test_socket_that_is_stopped_takes_the_service_and_its_file_along(machine: Machine) -> None:
    status(machine)

    machine.run("systemctl", "stop", "jobkeep.socket")

    wait_until(lambda: not is_active(machine))
    assert machine.run("ls", "/run/jobkeep") == ""
    stopped, words = machine.try_to("jobkeep", "status")
    assert stopped == 3
    assert "/run/jobkeep/jobkeep.sock" in words


def test_database_is_moved_by_a_setting_and_a_drop_in(machine: Machine) -> None:
    machine.run("install", "-d", "-o", "jobkeep", "-m", "0700", "/srv/jobkeep")
    machine.write(CONFIGURATION, 'db = "/srv/jobkeep/state.db"\n')
    change_unit(machine, "Service", "ReadWritePaths=/srv/jobkeep")

    machine.run("jobkeep", "run", "job", "--", "true", "{}", ":::", "1")

    assert status(machine)["database"] == "/srv/jobkeep/state.db"


# -- the journal --------------------------------------------------------------------------------


def test_quiet_service_has_one_entry_at_its_start_and_one_at_its_end(machine: Machine) -> None:
    machine.run("jobkeep", "jobs")
    machine.run("systemctl", "stop", SERVICE)

    first, last = machine.entries("--unit", SERVICE, "SYSLOG_IDENTIFIER=jobkeepd")
    assert first["MESSAGE"].startswith("jobkeepd ")
    assert last["MESSAGE"].startswith("stopped: ")
    assert {first["PRIORITY"], last["PRIORITY"]} == {"6"}


def test_entries_can_be_found_by_what_they_are_about(machine: Machine) -> None:
    machine.run("jobkeep", "run", "theirs", "--", "true", "{}", ":::", "1", user="alice")
    machine.try_to("jobkeep", "delete", "--yes", "theirs", user="alice")
    alice = machine.run("id", "-u", "alice").strip()

    for match in (
        "JOBKEEP_OPERATION=delete",
        f"JOBKEEP_CLIENT_UID={alice}",
        "JOBKEEP_JOB=theirs",
    ):
        (entry,) = machine.entries(match)
        assert entry["PRIORITY"] == "4"
        assert "delete needs the role admin" in entry["MESSAGE"]
