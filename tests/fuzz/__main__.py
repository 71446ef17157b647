"""`make fuzz`: look for bytes that break something, for FUZZ_SECONDS in all (300 by default).

First the coverage-guided targets, then a live daemon. What is found stays in `.fuzz`: the corpus,
from which the next run goes on, what broke something, and what the targets said. Where there is no
atheris, the property tests run with many more examples instead.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zlib
from pathlib import Path

from tests.fuzz.conversations import of_all_errors, of_all_replies, of_all_requests
from tests.fuzz.dialects import FRAMES

SECONDS = float(os.environ.get("FUZZ_SECONDS", "300"))
PLACE = Path(".fuzz")
LARGEST_INPUT = 65_536
SLOWEST_SECONDS = 20
"""No input of that size may take longer."""

TAIL_LINES = 30


def main() -> int:
    """Run all; gives 1 when anything was found."""
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris is not installed (there are wheels for CPython on Linux x86_64): running the "
            "property tests with more examples instead"
        )
        found = _run_tests("tests/fuzz", SECONDS / 2)
    else:
        found = not _run_target("decoder", SECONDS / 4)
        found |= not _run_target("session", SECONDS / 4)
        found |= _run_tests("tests/fuzz/test_live.py", SECONDS / 2)
    return int(found)


def _run_target(name: str, seconds: float) -> bool:
    """Whether a target ran to its end."""
    corpus, crashes, log = PLACE / "corpus" / name, PLACE / "crashes", PLACE / f"{name}.log"
    crashes.mkdir(parents=True, exist_ok=True)
    _seed(corpus)
    module = f"tests.fuzz.targets.{name}"
    print(f"{name}: {seconds:.0f} s, corpus of {len(list(corpus.iterdir()))} streams", flush=True)
    command = [
        *(sys.executable, "-m", module, str(corpus)),
        *(f"-artifact_prefix={crashes}/{name}-", f"-max_len={LARGEST_INPUT}"),
        *(f"-max_total_time={seconds:.0f}", f"-timeout={SLOWEST_SECONDS}", "-print_final_stats=1"),
    ]
    before = set(crashes.iterdir())
    with log.open("wb") as output:
        status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if status == 0:
        print("\n".join(line for line in lines if line.startswith(("stat::", "Done"))))
        return True
    print("\n".join(lines[-TAIL_LINES:]))
    for crash in sorted(set(crashes.iterdir()) - before):
        print(f"\nAgain with: {sys.executable} -m {module} {crash}")
    return False


def _seed(corpus: Path) -> None:
    """What to begin with: the conversations, and each of their messages behind the first."""
    corpus.mkdir(parents=True, exist_ok=True)
    for conversation in (of_all_requests(), of_all_replies(), of_all_errors()):
        first, *others = conversation.messages
        streams = [FRAMES.join(conversation.messages)]
        streams += [FRAMES.join([first, other]) for other in others]
        for stream in streams:
            (corpus / f"example-{zlib.crc32(stream):08x}").write_bytes(stream)


def _run_tests(path: str, seconds: float) -> bool:
    """Whether these tests found anything."""
    environment = {**os.environ, "FUZZ_SECONDS": f"{seconds:.0f}"}
    command = [sys.executable, "-m", "pytest", "-q", "-s", path]
    return subprocess.run(command, env=environment, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
