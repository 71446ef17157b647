"""Where the daemon's socket is.

What lives here: the order in which the places are looked at. What may not: connecting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from jobkeep_protocol.values import refused

SYSTEM_SOCKET = Path("/run/jobkeep/jobkeep.sock")


def find_socket(
    given: str | os.PathLike[str] | None, environment: Mapping[str, str] = os.environ
) -> Path:
    """The socket's path: the one given (a path or `unix:///path`), else `$JOBKEEP_SOCKET`, else
    `$XDG_RUNTIME_DIR/jobkeep/jobkeep.sock` if that exists, else `/run/jobkeep/jobkeep.sock`.

    Raises InvalidRequest for what names no Unix socket.
    """
    if given is not None and not isinstance(given, str | os.PathLike):
        raise refused("socket", given, "a path or unix:///path")
    named = os.fspath(given) if given is not None else environment.get("JOBKEEP_SOCKET")
    if named:
        if "://" in named and not named.startswith("unix://"):
            raise refused("socket", named, "a path or unix:///path: there is no other transport")
        return Path(named.removeprefix("unix://"))
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime:
        own = Path(runtime) / "jobkeep" / "jobkeep.sock"
        if os.path.exists(own):  # noqa: PTH110 # what may not be looked at, as after `su`, is not there
            return own
    return SYSTEM_SOCKET
