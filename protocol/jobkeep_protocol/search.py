"""What a search gives.

What lives here: a hit and a page of hits. What may not: the request (that is in `messages`), and
what a query means to SQLite.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct


class Mark(Struct, frozen=True):
    """A part of a text, in characters: from `start` up to, and without, `end`."""

    start: int
    end: int


class SearchHit(Struct, frozen=True, kw_only=True):
    """One attempt that was found, by its prompt or output; or one failure, by its message."""

    job_id: str
    sheet_num: int
    attempt_num: int
    execution_id: int | None
    """The record of the attempt; null for a failure without one."""
    failure_id: int | None
    """Null unless it is the error message of a failure that was found."""
    field: Literal["prompt", "output", "error_message"]
    """Where the words are; of a prompt and an output that both have some, the output."""
    snippet: str
    """The text around the words; `…` stands for what is left out."""
    marks: list[Mark]
    """Where the words are in the snippet."""
    rank: float
    """How well it matches, by the measure bm25: the smaller, the better."""
    at: datetime
    """When the attempt was recorded or the sheet failed."""
    exit_code: int | None


class SearchPage(Struct, frozen=True):
    """Some hits, the best first."""

    hits: list[SearchHit]
    complete: bool
    """False while older texts are still being added to the index: some may be found later."""
    more: bool = False
    """Whether there are hits after these."""
