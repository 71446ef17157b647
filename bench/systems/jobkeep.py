"""jobkeep: a daemon, and an AsyncClient in every worker.

The asynchronous client, because it is what an orchestrator uses and what the clients of other
stores offer: the same style for every system. Workers run on uvloop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.daemon import running_daemon
from bench.trial import System
from bench.workload import Connect
from jobkeep import AsyncClient


@contextmanager
def serve(directory: Path, **settings: str) -> Iterator[Connect]:
    """A daemon on a new database."""
    with running_daemon(directory, **settings) as socket:
        yield partial(AsyncClient, socket)


SYSTEM = System("jobkeep", serve)

NORMAL = System("jobkeep-normal", partial(serve, durability="normal"))
"""Without waiting for the disk; not among what is compared with other systems."""

SEARCHING = System("jobkeep-search", partial(serve, search="on"))
"""With the texts indexed; beside itself only, too."""
