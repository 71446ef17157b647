"""Some of the interface `org.jobkeep`, declared by hand for the asyncvarlink package.

What lives here: declarations, whose types are all that counts. That package looks at annotations as
they are when a class is made, so they are no text in this module.
"""

from collections.abc import Iterator
from typing import TypedDict

from asyncvarlink import TypedVarlinkErrorReply, VarlinkInterface, varlinkmethod


class JobNotFound(TypedVarlinkErrorReply, interface="org.jobkeep"):
    """The error for a job that does not exist."""

    class Parameters:
        message: str
        data: dict[str, str]


class HistoryPage(TypedDict):
    """A page of a history in which there is nothing."""

    records: list[str]
    more: bool


class Jobkeep(VarlinkInterface, name="org.jobkeep"):
    """What a test calls."""

    errors = (JobNotFound,)

    @varlinkmethod(return_parameter="result")
    def GetNextSheet(self, *, job_id: str) -> int | None:  # noqa: N802 # the method is called so
        """The sheet to work on next."""
        raise NotImplementedError

    @varlinkmethod(return_parameter="result")
    def ClaimNextSheet(  # noqa: N802 # the method is called so
        self, *, job_id: str, max_attempts: int | None = None
    ) -> int | None:
        """Take it."""
        raise NotImplementedError

    @varlinkmethod
    def GetExecutionHistory(self, *, job_id: str) -> Iterator[HistoryPage]:  # noqa: N802 # the same
        """The attempts, a page at a time."""
        raise NotImplementedError
