"""What is kept of a run: a JSON file in bench/results/ for each part.

What lives here: the envelope of a result and its file. What may not: what is in it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.machine import Machine


class Kept(Struct, frozen=True):
    """The result of a part of the benchmark, with when and on what it was measured."""

    part: str
    measured_at: datetime
    machine: Machine
    result: Any

    def write(self, directory: Path) -> Path:
        """Write a file named by the date, the time and the part; gives its path."""
        directory.mkdir(exist_ok=True)
        path = directory / f"{self.measured_at:%Y-%m-%dT%H%M%SZ}-{self.part}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        return path
