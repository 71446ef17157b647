"""The `jobkeepd` command: arguments in, an exit status out.

What lives here: exit statuses and starting the loop. What may not: the daemon's life (that is
`daemon`).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from jobkeep_protocol.errors import InvalidRequest, JobkeepError
from jobkeepd import failpoints
from jobkeepd.logs import is_service, start_logging
from jobkeepd.settings import Settings, read_settings, wants_check

log = logging.getLogger(__name__)

EX_REFUSED = 1
EX_USAGE = 2
EX_SOFTWARE = 70
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the daemon in the foreground and exit with its status."""
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        start_logging(settings, os.environ)
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    except InvalidRequest as error:
        print(f"{'<3>' if is_service(os.environ) else ''}jobkeepd: {error}", file=sys.stderr)
        sys.exit(EX_USAGE)
    if wants_check(sys.argv[1:]):
        sys.exit(_check(settings))
    sys.exit(_serve(settings))


def _serve(settings: Settings) -> int:
    """Run the daemon to its end; gives the exit status, for which the last line is the reason."""
    try:
        import uvloop

        from jobkeepd.daemon import run
    except ImportError as error:
        return _miss(error)
    try:
        uvloop.run(run(settings, lambda: read_settings(sys.argv[1:], os.environ)))
    except JobkeepError as error:
        return _end(error)
    except KeyboardInterrupt:  # before it listens to signals; later ones stop it in order
        return EX_INTERRUPTED
    except Exception:
        log.critical("a defect of jobkeepd ended it", exc_info=True)
        return EX_SOFTWARE
    return 0


def _check(settings: Settings) -> int:
    try:
        from jobkeepd.store.examine import examine
    except ImportError as error:
        return _miss(error)
    return 0 if examine(settings.database, print) else 1


def _miss(error: ImportError) -> int:
    log.critical("%s is missing; install it with `pip install 'jobkeep[daemon]'`", error.name)
    return EX_REFUSED


def _end(error: JobkeepError) -> int:
    """Say what ended it, unless that was said; gives the exit status."""
    from jobkeepd.server import SocketInUse
    from jobkeepd.store.failures import DatabaseFailed
    from jobkeepd.store.lock import DatabaseInUse

    if isinstance(error, DatabaseFailed):
        return EX_IOERR  # it was logged at the moment it happened
    log.critical("%s", error)
    return EX_TEMPFAIL if isinstance(error, DatabaseInUse | SocketInUse) else EX_REFUSED
