"""The daemon of jobkeep, and its store for embedding in one process.

`jobkeepd.SQLiteStateBackend` is the embedded backend; `jobkeepd.daemon.run(settings)` is the
daemon. Needs the extra `jobkeep[daemon]`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkeepd.backend import SQLiteStateBackend

__all__ = ["SQLiteStateBackend"]


def __getattr__(name: str) -> Any:
    # On first use, so that `jobkeepd --help` does not load the store.
    if name == "SQLiteStateBackend":
        from jobkeepd.backend import SQLiteStateBackend

        return SQLiteStateBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
