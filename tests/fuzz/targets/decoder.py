"""Target: what a daemon, and what a client, make of any stream, cut in any way."""

from __future__ import annotations

import itertools

import atheris

with atheris.instrument_imports(include=["jobkeep_protocol", "jobkeep"]):
    from tests.fuzz.checks import outcomes_in_client, outcomes_in_daemon

from tests.fuzz.targets.guided import fuzz, pieces_of


def try_one(stream: bytes) -> None:
    """Fails for what `tests.fuzz.checks` does not allow, and when cutting makes a difference."""
    for read in (outcomes_in_daemon, outcomes_in_client):
        both = itertools.zip_longest(read(pieces_of(stream)), read([stream]))
        different = [(cut, whole) for cut, whole in both if cut != whole]
        assert not different, f"cut, and whole: {different[0]}"


if __name__ == "__main__":
    fuzz(try_one)
