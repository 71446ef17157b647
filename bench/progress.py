"""What a run says while it goes on.

What lives here: lines on standard error. What may not: the report, which has standard output.
"""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """One line, at once."""
    print(line, file=sys.stderr, flush=True)
