"""Many threads that use something for the first time at the same moment.

What lives here: running that in new interpreters, since a first time comes once in each, and since
what goes wrong may end the process.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support import PATIENCE, scaled

PROGRAM = """
import sys, threading
{setup}
THREADS = 8
barrier = threading.Barrier(THREADS)

def run():
    for first_use in FIRST_USES:
        barrier.wait()
        first_use()

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=run) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def assert_threads_survive(setup: str, interpreters: int) -> None:
    """Run `setup`, which sets FIRST_USES to a list of functions; all threads call each of them at
    the same moment. In so many interpreters, since it depends on the moment what happens."""
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM.format(setup=setup)]
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(interpreters)
    ]
    errors = [process.communicate(timeout=scaled(PATIENCE))[1] for process in processes]
    assert errors == [""] * interpreters
    assert [process.returncode for process in processes] == [0] * interpreters
