"""jobkeep at work: a daemon, a real job, a worker that is killed, and nothing lost.

`make run` runs this. It starts a daemon on a database in a private directory, has `jobkeep run`
measure some two hundred files of Python's own standard library with four workers, kills one of
them on the way, and checks in the job's history that another one did its item. All that is printed
is measured; when anything is not as it should be, the exit status is not 0.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

from jobkeep import CheckpointState, Client, JobkeepError, JobStatus, SheetStatus

T = TypeVar("T")

JOB = "measure-the-library"
FILES = 200
FILES_BEFORE_THE_KILL = 50
WORKERS = 4
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.01

MEASURE = Path(__file__).resolve().parent / "measure.py"


class NotAsTold(Exception):
    """Something did not happen as this program says it does."""


def main() -> int:
    """Run the demo; gives the exit status."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    assert isinstance(sys.stdout, io.TextIOWrapper), "nobody has replaced it"
    sys.stdout.reconfigure(line_buffering=True)  # in order with what the commands say, in a log too
    try:
        with (
            tempfile.TemporaryDirectory(prefix="jobkeep-demo-") as directory,
            _daemon(Path(directory)) as socket,
        ):
            _show(Path(directory), socket)
    except NotAsTold as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the daemon is stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _show(directory: Path, socket: Path) -> None:
    files = _files_of_the_library()
    listed = "\0".join(map(str, files))
    print(f"== {len(files)} files of the standard library, {WORKERS} workers, one of them killed\n")
    line = (sys.executable, "-I", str(MEASURE), "{}")
    command = [*_jobkeep(), "--socket", str(socket)]
    (directory / "files").write_bytes(os.fsencode(listed))
    with (directory / "files").open("rb") as items:
        runner = subprocess.Popen(
            [*command, "run", JOB, "-0", "-j", str(WORKERS), "--", *line], stdin=items
        )
    with _ending(runner), Client(socket) as client:
        _wait_for(
            lambda: client.get_execution_history_count(JOB) >= FILES_BEFORE_THE_KILL,
            f"the {FILES_BEFORE_THE_KILL}th file",
        )
        victim, item = _kill_a_worker(runner)
        if runner.wait() != 0:
            raise NotAsTold(f"`jobkeep run` ended with {runner.returncode}")
        _check(client, files, victim, item)
        _print_story(client, victim, item)
    _run([*command, "stats", JOB], "\n== The job's statistics\n")
    status = client.status()
    print(f"\nsocket    {status.socket}\ndatabase  {status.database}")
    _offer(command)


# -- the daemon -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _daemon(directory: Path) -> Iterator[Path]:
    """A daemon in this directory, from its start to its end; gives its socket."""
    socket, database, log = (directory / name for name in ("jobkeep.sock", "state.db", "log"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobkeepd"),
                *("--db", str(database), "--socket", str(socket)),
            ],
            stderr=output,
            process_group=0,  # so that Ctrl-C reaches it when we say so
        )
    with _ending(process):
        _wait_for(lambda: _answers(socket) or process.poll() is not None, "the daemon's socket")
        if process.poll() is not None:
            raise NotAsTold(f"the daemon did not start: {log.read_text(errors='replace').strip()}")
        yield socket
        process.terminate()
        if process.wait(PATIENCE_SECONDS) != 0:
            raise NotAsTold(f"the daemon ended with {process.returncode}")


def _answers(socket: Path) -> bool:
    try:
        with Client(socket) as client:
            client.status()
    except JobkeepError:
        return False
    return True


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process with us, whatever happens."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# -- the job --------------------------------------------------------------------------------------


def _files_of_the_library() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(library.glob("*.py")) + sorted(library.glob("[a-z]*/*.py"))
    return [path for path in files if path.stat().st_size > 0 and _is_library(path)][:FILES]


def _is_library(path: Path) -> bool:
    return "site-packages" not in path.parts and "test" not in path.parts


def _kill_a_worker(runner: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Kill -9 a worker while it runs a command; gives its pid, and the item it had claimed."""

    def caught() -> tuple[int, str] | None:
        if runner.poll() is not None:
            raise NotAsTold("`jobkeep run` ended before a worker could be killed")
        for worker in psutil.Process(runner.pid).children():
            with contextlib.suppress(psutil.Error):
                # Stopped first, so that it cannot finish its item while we look what that is.
                worker.suspend()
                for command in worker.children():
                    arguments = command.cmdline()
                    if str(MEASURE) in arguments:
                        worker.kill()
                        return worker.pid, arguments[-1]
                worker.resume()
        return None

    return _wait_for(caught, "a worker at work")


def _check(client: Client[CheckpointState], files: list[Path], victim: int, item: str) -> None:
    """Hold what the daemon keeps against what this program tells."""
    state = client.load(JOB)
    if state is None or state.status is not JobStatus.COMPLETED:
        raise NotAsTold(f"job {JOB} is {state.status if state else 'not kept'}")
    done = {
        sheet.extra["item"]
        for sheet in state.sheets.values()
        if sheet.status is SheetStatus.COMPLETED
    }
    if done != set(map(str, files)):
        raise NotAsTold(f"{len(done)} of {len(files)} files are done")
    attempts = client.get_execution_history(JOB, _sheet_of(client, item))
    if [one["exit_code"] for one in attempts] != [0, None]:
        raise NotAsTold(f"{item} was not lost once and then done: {attempts}")
    if f"worker {victim} " not in str(attempts[-1]["output"]):
        raise NotAsTold(f"the history of {item} does not name worker {victim}")
    if client.get_execution_history_count(JOB) != len(files) + 1:
        raise NotAsTold("a file was measured more often than once")


def _print_story(client: Client[CheckpointState], victim: int, item: str) -> None:
    number = _sheet_of(client, item)
    print(f"\n== Worker {victim} was killed with sheet {number}, {Path(item).name}. Its history:\n")
    for record in reversed(client.get_execution_history(JOB, number)):
        print(f"attempt {record['attempt_num']}: {str(record['output']).strip()}")


def _sheet_of(client: Client[CheckpointState], item: str) -> int:
    state = client.load(JOB)
    assert state is not None, "it was checked"
    return next(number for number, sheet in state.sheets.items() if sheet.extra.get("item") == item)


# -- what to try next -----------------------------------------------------------------------------


def _offer(command: list[str]) -> None:
    """Print three commands; keep the daemon for them on a terminal, else try them ourselves."""
    offers = [
        [*command, "show", JOB],
        [*command, "history", JOB, "--limit", "5"],
        [*command, "jobs", "--json"],
    ]
    print("\n== Three commands to try next\n")
    for offer in offers:
        print(shlex.join(offer))
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("\nThe daemon runs until Ctrl-C.")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        print("\nThe daemon is stopped, and its directory removed.")
        return
    for offer in offers:
        _run(offer, f"\n$ {shlex.join(offer)}")
    print("\nThere is no terminal: the daemon is stopped, and its directory removed.")


def _run(command: list[str], title: str) -> None:
    print(title)
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise NotAsTold(f"`{shlex.join(command)}` ended with {status}")


def _jobkeep() -> list[str]:
    """How to call `jobkeep` from here: the command beside this interpreter, or its module."""
    installed = Path(sys.executable).with_name("jobkeep")
    if not installed.exists():
        return [sys.executable, "-m", "jobkeep.cli"]
    with contextlib.suppress(ValueError):
        return [str(installed.relative_to(Path.cwd()))]
    return [str(installed)]


def _wait_for(look: Callable[[], T | None], what: str) -> T:
    """What `look` gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise NotAsTold(f"{what} did not appear within {PATIENCE_SECONDS:g} seconds")
        time.sleep(POLL_SECONDS)
    return found


def _as_ctrl_c(signum: int, frame: object) -> None:
    del signum, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
