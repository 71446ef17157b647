"""The `jobkeep` command.

What lives here: the entry point. What may not: anything that costs time to import. Most of what a
short command takes is its imports, so it imports what it needs and no more: a command is a module
that is imported when it is called, and what only some calls need is imported where they use it.
"""

import gc
import os
import sys
from typing import NoReturn

COMPLETE = "_JOBKEEP_COMPLETE"
"""Set by the scripts that complete command lines in a shell (see `completion`)."""


def main() -> NoReturn:
    """Run the command line of this process and exit with its status (see `app`)."""
    gc.disable()  # until the command is imported: see `app.LazyGroup`
    try:
        import click  # noqa: F401 # only to see whether it is there
    except ImportError:
        print(
            "jobkeep: the command line needs click and rich; install them with "
            "`pip install 'jobkeep[cli]'`",
            file=sys.stderr,
        )
        sys.exit(1)
    if COMPLETE in os.environ:
        from jobkeep.cli.completion import complete

        sys.exit(complete(os.environ[COMPLETE]))
    from jobkeep.cli.app import run

    sys.exit(run(sys.argv[1:]))
