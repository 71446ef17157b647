"""Make the sample: `python -m examples.sample DIRECTORY [-- COMMAND …]`.

What lives here: the arguments, and the daemon's process. What may not: what the jobs are.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from examples.sample.kinds import SURVEY
from examples.sample.rounds import Workplace, make_round
from jobkeep import Client, JobkeepError

START_SECONDS = 30.0
POLL_SECONDS = 0.01


def main() -> int:
    """Make it; gives the exit status, that of COMMAND when there is one."""
    own, command = _split_at_dashes(sys.argv[1:])
    arguments = _parser().parse_args(own)
    directory: Path = arguments.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _daemon(directory) as socket, Client(socket, timeout=60) as client:
        place = Workplace(client, directory)
        for _ in range(arguments.rounds):
            make_round(place, arguments.size)
        print(f"database  {directory / 'state.db'}\nsocket    {socket}", flush=True)
        with place.under_way(SURVEY):
            return _serve(command, socket)


def _split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the command after `--`."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.sample",
        usage="%(prog)s DIRECTORY [--size N] [--rounds N] [-- COMMAND ...]",
        description="Fill a database with real executions, and serve it: until Ctrl-C, or while "
        "COMMAND runs, which has $JOBKEEP_SOCKET. On a directory that has one already, add to it.",
    )
    parser.add_argument("directory", type=Path, help="where state.db is made")
    parser.add_argument(
        "--size", type=float, default=1.0, help="1 is some 3,000 executions in two rounds"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="how many; every second one is crowded"
    )
    return parser


def _serve(command: list[str], socket: Path) -> int:
    if command:
        environment = {**os.environ, "JOBKEEP_SOCKET": str(socket)}
        return subprocess.run(command, env=environment, check=False).returncode
    print("The daemon runs, and a job with it, until Ctrl-C.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    return 0


@contextlib.contextmanager
def _daemon(directory: Path) -> Iterator[Path]:
    """A daemon in this directory, from its start to its end; gives its socket."""
    socket = directory / "jobkeep.sock"
    command = [sys.executable, "-m", "jobkeepd", "--db", str(directory / "state.db")]
    process = subprocess.Popen([*command, "--socket", str(socket)], process_group=0)
    try:
        _wait_until_ready(process, socket)
        yield socket
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(JobkeepError), Client(socket) as client:
            client.status()
            return
        time.sleep(POLL_SECONDS)
    raise SystemExit("sample: the daemon did not start; it has said why")


if __name__ == "__main__":
    sys.exit(main())
