"""A machine to try a service on: a real systemd, booted as PID 1 of a container.

What lives here: booting it, and running commands in it. What may not: what is tried.

/usr is that of this machine with an installed jobkeep laid over it; everything else is in memory
and gone when the machine is off.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import PATIENCE, scaled, wait_until

PYTHON = "/usr/lib/jobkeep/bin/python"
"""That of the installed jobkeep."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}


def why_not() -> str | None:
    """Why there can be no machine here; None when there can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    for command in ("systemd-nspawn", "systemd-analyze", "nsenter"):
        if shutil.which(command) is None:
            return f"there is no {command}; it is in systemd-container, systemd and util-linux"
    can_mount = ("unshare", "--mount", "true")
    if subprocess.run(can_mount, capture_output=True, check=False).returncode:
        return "this root may not mount anything, so it cannot boot a container"
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run(["/usr/bin/python3", "-c", check], check=False).returncode:
        return "/usr/bin/python3 is older than 3.11, and a container has no other"
    return None


class Machine:
    """One machine, off until `boot`."""

    def __init__(self, usr: Path, directory: Path) -> None:
        self._usr = usr
        self._console = directory / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._started: list[subprocess.Popen[str]] = []

    def boot(self) -> None:
        """Start it, and wait until sockets are listened on."""
        command = [
            *("systemd-nspawn", "--quiet", "--console=pipe", "--directory=/", "--volatile=yes"),
            *("--register=no", "--keep-unit", f"--overlay-ro=/usr:{self._usr}:/usr"),
            *("--boot", "systemd.unit=basic.target", "systemd.firstboot=off"),
        ]
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        wait_until(lambda: self._is_up() or not self.is_on)
        assert self.is_on, self.console

    @property
    def is_on(self) -> bool:
        """Whether there is a process of it."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def console(self) -> str:
        """What it has printed."""
        return self._console.read_text(encoding="utf-8", errors="replace")

    def start(self, *command: str, user: str | None = None) -> subprocess.Popen[str]:
        """Start a command, as root or as this user with all their groups, without waiting."""
        become = ("setpriv", f"--reuid={user}", "--init-groups", f"--regid={user}") if user else ()
        process = subprocess.Popen(
            ["nsenter", f"--target={self._leader}", "--all", *become, *command],  # noqa: S607 # that of this machine
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def try_to(self, *command: str, user: str | None = None) -> tuple[int, str]:
        """Run a command to its end; gives its status and all that it wrote."""
        process = self.start(*command, user=user)
        out, err = process.communicate(timeout=scaled(PATIENCE))
        return process.returncode, out + err

    def run(self, *command: str, user: str | None = None) -> str:
        """Run a command that has to succeed; gives what it wrote."""
        status, output = self.try_to(*command, user=user)
        assert status == 0, (
            f"{' '.join(command)}: status {status}: {output}\n{self.journal('--unit=jobkeep*')}"
        )
        return output

    def write(self, path: str, text: str) -> None:
        """Make a file."""
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", text, path)

    def property_of(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd has it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Entries of the journal."""
        output = self.run("journalctl", "--output=json", "--quiet", *matches)
        return [json.loads(line) for line in output.splitlines()]

    def journal(self, *matches: str) -> str:
        """The texts of entries of the journal: of all, to see what went wrong."""
        return self.try_to("journalctl", "--quiet", "--no-pager", "--output=cat", *matches)[1]

    def power_off(self) -> None:
        """End it and everything in it."""
        if self._nspawn is None:
            return
        self._nspawn.terminate()  # has systemd halt
        try:
            self._nspawn.wait(scaled(PATIENCE))
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        for process in self._started:
            with process:
                process.kill()

    def _is_up(self) -> bool:
        assert self._nspawn is not None, "it is being booted"
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if not children:
            return False
        self._leader = int(children[0])
        return self.try_to("systemctl", "is-active", "--quiet", "basic.target")[0] == 0


def python(code: str) -> Sequence[str]:
    """The command that runs this with the installed jobkeep."""
    return (PYTHON, "-I", "-W", "error", "-c", code)
