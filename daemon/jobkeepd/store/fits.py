"""What is kept has to fit in a reply: else it could be written, and never be read again.

What lives here: the check of what a write would keep. What may not: how replies are put together
(that is `reads`).

A request is no measure for it: a reply names the fields of a record, has the times and counts that
the daemon sets, and holds with all its digits a number that came with half of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobkeep_protocol.codec import encode_part
from jobkeep_protocol.errors import LimitExceeded
from jobkeep_protocol.messages import ImportHistory, ImportJob, RecordExecution, Save, SaveSheet
from jobkeep_protocol.states import SheetState
from jobkeepd.store.readers import MAX_PAGE_BYTES

SMALL_BYTES = MAX_PAGE_BYTES // 2
"""Nothing in a request of this size can be too large for a reply: no list of numbers becomes twice
as long, and texts stay as they are."""

SHORT_CHARACTERS = 1_024
"""A text that adds so little to what is kept already is nothing to look at."""


def check_request_fits(request: Any, size: int) -> None:
    """Refuse a request of `size` bytes that would keep what no reply has room for.

    Raises LimitExceeded, naming the part.
    """
    if size > SMALL_BYTES:
        for name, part in _kept_parts(request):
            _check_fits(name, part)


def check_text_fits(sheet: SheetState, text: str) -> None:
    """The same for a sheet that was given a text, beside all that it has already."""
    if len(text) > SHORT_CHARACTERS:
        _check_fits(f"sheet {sheet.sheet_num}", sheet)


def _kept_parts(request: Any) -> Iterator[tuple[str, Any]]:
    """What a request keeps, as the parts that are each sent whole."""
    if isinstance(request, Save | ImportJob):
        yield "the job without its sheets", request.state
        yield from ((f"sheet {sheet.sheet_num}", sheet) for sheet in request.sheets)
    elif isinstance(request, SaveSheet):
        yield f"sheet {request.sheet.sheet_num}", request.sheet
    elif isinstance(request, RecordExecution):
        yield "the record", request
    elif isinstance(request, ImportHistory):
        yield from (("the record", attempt) for attempt in request.executions)


def _check_fits(name: str, part: Any) -> None:
    size = memoryview(encode_part(part)).nbytes
    if size > MAX_PAGE_BYTES:
        raise LimitExceeded(
            f"{name} has {size} bytes, and a reply has room for {MAX_PAGE_BYTES}; nothing was "
            "written. Keep less in its texts and its free-form fields",
            {"limit": "reply", "maximum": MAX_PAGE_BYTES, "value": size},
        )
