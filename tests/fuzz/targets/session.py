"""Target: what a session, its operations and a real store do with any stream."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jobkeep_protocol", "jobkeepd"]):
    from tests.fuzz.session_harness import SessionHarness

from tests.fuzz.conversations import of_all_requests
from tests.fuzz.targets.guided import fuzz, pieces_of

CLIENT_ID = of_all_requests().client_id


def main() -> None:
    """Fails for what `SessionHarness` does not allow."""
    with (
        tempfile.TemporaryDirectory() as directory,
        SessionHarness(Path(directory)) as harness,
    ):
        fuzz(lambda stream: _try_one(harness, stream))


def _try_one(harness: SessionHarness, stream: bytes) -> None:
    another = os.urandom(len(CLIENT_ID))  # to one it knows it would say again what it said before
    harness.converse([piece.replace(CLIENT_ID, another) for piece in pieces_of(stream)])


if __name__ == "__main__":
    main()
