"""The `jobkeep` command.

What lives here: the entry point. What may not: anything that costs time to import; each command
is a module that is imported when it is called.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and exit with its status (see `app`)."""
    try:
        import click  # noqa: F401 # only to see whether it is there
    except ImportError:
        print(
            "jobkeep: the command line needs click and rich; install them with "
            "`pip install 'jobkeep[cli]'`",
            file=sys.stderr,
        )
        sys.exit(1)
    from jobkeep.cli.app import run

    sys.exit(run(sys.argv[1:]))
