"""The units: hardened, each omission explained, and printed by the daemon for its own place."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeepd import printing
from jobkeepd.printing import FILES, GROUPS, UNITS
from jobkeepd.settings import RELOADABLE, Settings, read_settings
from jobkeepd.systemd import SOCKET_NAME

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze to judge units"
)


def printed(*arguments: str, command: str = "/opt/jobkeep/bin/jobkeepd") -> str:
    """What `jobkeepd` prints when it is this command."""
    program = f"import sys; sys.argv[0] = {command!r}; from jobkeepd.main import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def directives(text: str) -> list[str]:
    """The lines of a unit that are not for people."""
    return [line for line in text.splitlines() if "=" in line and not line.startswith("#")]


@needs_systemd
def test_exposure_is_at_most_1_and_every_omission_has_its_reason(tmp_path: Path) -> None:
    unit = tmp_path / "jobkeep.service"
    unit.write_text(printed("--print-unit", "system/jobkeep.service"))
    analyze = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=10"]

    finished = subprocess.run([*analyze, str(unit)], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stdout
    reasons = "\n".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    omitted = re.findall(r"^✗ (\S+)", finished.stdout, re.MULTILINE)
    assert omitted, finished.stdout
    for directive in omitted:
        for name in re.findall(r"\w+=", directive):
            assert f"# {name}" in reasons or f", {name}" in reasons, directive


@pytest.mark.parametrize("kind", ["system", "user"])
def test_both_services_are_watched_started_again_and_told_to_reload(kind: str) -> None:
    service = directives((UNITS / kind / "jobkeep.service").read_text())

    for line in (
        *("Type=notify", "NotifyAccess=main", "Restart=always", "WatchdogSec=30"),
        *("RestrictAddressFamilies=AF_UNIX", "NoNewPrivileges=yes"),
        *("MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service"),
    ):
        assert line in service


@pytest.mark.parametrize("kind", ["system", "user"])
def test_both_sockets_have_the_name_that_the_daemon_looks_for(kind: str) -> None:
    socket = directives((UNITS / kind / "jobkeep.socket").read_text())

    assert f"FileDescriptorName={SOCKET_NAME}" in socket
    assert {"Accept=no", "Backlog=4096", "RemoveOnStop=yes"} <= set(socket)


# -- printing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_printed_alone_for_the_place_of_the_daemon(name: str) -> None:
    text = printed("--print-unit", name)

    assert text == (UNITS / name).read_text().replace("@BINDIR@", "/opt/jobkeep/bin")
    assert "@" not in re.sub(r"SystemCallFilter=.*", "", text)


@pytest.mark.parametrize("kind", GROUPS)
def test_service_and_socket_are_printed_together_each_after_its_name(kind: str) -> None:
    text = printed("--print-unit", kind)

    for one in ("service", "socket"):
        alone = printed("--print-unit", f"{kind}/jobkeep.{one}")
        assert f"# {kind}/jobkeep.{one}\n{alone}" in text


def test_unknown_unit_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "jobkeepd", "--print-unit", "jobkeep.timer"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert finished.returncode == 2
    assert "'jobkeep.timer'; expected system, user, system/jobkeep.service," in finished.stderr


def test_daemon_in_a_home_directory_is_no_system_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/alice/venv/bin/jobkeepd"])

    with pytest.raises(InvalidRequest, match="which a system service cannot see"):
        printing.units("system")
    assert "ExecStart=/home/alice/venv/bin/jobkeepd" in printing.units("user/jobkeep.service")


def test_daemon_that_is_run_as_a_module_is_beside_its_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/jobkeepd/__main__.py"])

    assert printing.directory_of_command() == Path(sys.executable).parent


def test_printed_configuration_is_read_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobkeepd.toml"
    text = printed("--print-config")
    path.write_text(text)
    assert read_settings(["--config", str(path)], {}) == Settings()

    path.write_text(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert set(tomllib.loads(path.read_text())) == set(Settings.__struct_fields__)
    assert read_settings(["--config", str(path)], {}) == Settings()


def test_printed_configuration_marks_what_a_reload_changes() -> None:
    paragraphs = printed("--print-config").split("\n\n")[1:]
    marked = {
        one.rpartition("\n#")[2].split(" = ")[0]
        for one in paragraphs
        if "[reload]" in " ".join(one.split("\n# "))
    }

    assert marked == RELOADABLE
