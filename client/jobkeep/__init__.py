"""The client of jobkeep: durable job state for every worker process of a machine.

    from jobkeep import Client, CheckpointState

    with Client() as jobs:
        state = jobs.load("nightly") or CheckpointState(job_id="nightly", total_sheets=3)

`AsyncClient` is the same for asyncio. Names are imported on first use, since every worker process
pays for the import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkeep.async_client import AsyncClient
    from jobkeep.client import Client
    from jobkeep_protocol.backend import (
        ExecutionRecord,
        JobStatistics,
        JobSummary,
        StateBackend,
    )
    from jobkeep_protocol.errors import (
        DaemonUnavailable,
        InvalidRequest,
        JobkeepError,
        JobNotFound,
        LimitExceeded,
        PermissionDenied,
        ProtocolError,
        RequestTimeout,
        RevisionConflict,
        StorageError,
    )
    from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
    from jobkeep_protocol.messages import DaemonStatus, Event
    from jobkeep_protocol.pruning import PrunedJob, PruneResult
    from jobkeep_protocol.search import SearchHit, SearchPage
    from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
    from jobkeep_protocol.version import __version__

_MODULES = {
    "jobkeep.async_client": ("AsyncClient",),
    "jobkeep.client": ("Client",),
    "jobkeep_protocol.backend": (
        "ExecutionRecord",
        "JobStatistics",
        "JobSummary",
        "StateBackend",
    ),
    "jobkeep_protocol.errors": (
        "DaemonUnavailable",
        "InvalidRequest",
        "JobNotFound",
        "JobkeepError",
        "LimitExceeded",
        "PermissionDenied",
        "ProtocolError",
        "RequestTimeout",
        "RevisionConflict",
        "StorageError",
    ),
    "jobkeep_protocol.learning": ("LearnedPattern", "SimilarOutcome"),
    "jobkeep_protocol.messages": ("DaemonStatus", "Event"),
    "jobkeep_protocol.pruning": ("PruneResult", "PrunedJob"),
    "jobkeep_protocol.search": ("SearchHit", "SearchPage"),
    "jobkeep_protocol.states": ("CheckpointState", "JobStatus", "SheetState", "SheetStatus"),
    "jobkeep_protocol.version": ("__version__",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AsyncClient",
    "CheckpointState",
    "Client",
    "DaemonStatus",
    "DaemonUnavailable",
    "Event",
    "ExecutionRecord",
    "InvalidRequest",
    "JobNotFound",
    "JobStatistics",
    "JobStatus",
    "JobSummary",
    "JobkeepError",
    "LearnedPattern",
    "LimitExceeded",
    "PermissionDenied",
    "ProtocolError",
    "PruneResult",
    "PrunedJob",
    "RequestTimeout",
    "RevisionConflict",
    "SearchHit",
    "SearchPage",
    "SheetState",
    "SheetStatus",
    "SimilarOutcome",
    "StateBackend",
    "StorageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
