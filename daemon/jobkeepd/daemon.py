"""The daemon as a whole: what is started in which order, and how it stops.

What lives here: the life of one daemon. `run(settings)` is all there is to it, for the command and
for tests alike. What may not: arguments and log formats (that is `main`).

Starting: take the lock, open and migrate the database, find who died meanwhile, listen. Stopping,
on SIGTERM and SIGINT: stop accepting, answer what was received, commit, checkpoint, let go. That
takes as long as the disk does, for ever if it hangs; so a second signal ends the process at once,
which is as safe as any kill: what was acknowledged is on disk. On SIGHUP the settings are read
again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from jobkeep_protocol.errors import InvalidRequest, StorageError
from jobkeep_protocol.version import __version__
from jobkeepd.access import Access
from jobkeepd.accounts import Accounts
from jobkeepd.connections import Connections
from jobkeepd.durable import make_directory
from jobkeepd.inspector import DaemonInspector
from jobkeepd.logs import set_log_level
from jobkeepd.operations import Operations
from jobkeepd.reporter import Reporter
from jobkeepd.retention import Retention
from jobkeepd.server import Server
from jobkeepd.settings import RELOADABLE, Settings
from jobkeepd.store.store import Store
from jobkeepd.systemd import ServiceManager, take_socket

log = logging.getLogger(__name__)

LOCK_PATIENCE_SECONDS = 2.0
"""How long to wait for the database of a daemon that is just ending."""

OTHER_FILES = 256
"""Open files beside those of connections: the database, and processes that are watched."""

DRAIN_SECONDS = 10.0
"""How long a client that does not take its replies may hold up the end."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run(settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a second one kills the process. With `reread`, SIGHUP has the
    settings read again by it.

    Raises a JobkeepError when it cannot start; StorageError, at the end, when the database failed
    while it ran.
    """
    await Daemon(settings, reread).run()


class Daemon:
    """One daemon. `stop()` ends it from within the process."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
        self._settings = settings
        self._reread = reread
        self._manager = ServiceManager(os.environ)
        self._stop = asyncio.Event()
        self._broken: StorageError | None = None
        self._is_ready = False
        self._reload_is_due = False

    def stop(self) -> None:
        """Finish what was received and end."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped; see `run` of this module."""
        with self._manager.patience("opening the database"):
            await self._open(take_socket(os.environ))
        try:
            await self._server.start()
            log.info(
                "jobkeepd %s serves %s on %s (pid %d, durability %s)",
                __version__,
                self._store.database,
                self._server.path,
                os.getpid(),
                self._settings.durability,
            )
            await self._reporter.start()
            self._retention.start()
            self._become_ready()
            await self._stop.wait()
        finally:
            await self._close()
        if self._broken is not None:
            raise self._broken
        log.info("stopped: every write that was acknowledged is on disk")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            loop.add_signal_handler(signum, self._on_signal)
        if self._reread is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload, self._reread)

    async def _open(self, handed: socket.socket | None) -> None:
        """Put everything together; nobody is let in yet."""
        database, path = self._settings.database, self._settings.socket_path
        _take_all_descriptors(self._settings.max_connections + OTHER_FILES)
        access, mode = _access(self._settings), self._settings.socket_permissions
        _make_directory(database.parent, 0o700)
        if handed is None:
            _make_directory(path.parent, 0o755 if mode & 0o066 else 0o700)
        self._store = Store(
            database,
            self._settings.durability,
            self._on_broken,
            LOCK_PATIENCE_SECONDS,
            self._settings.cache_bytes,
            self._settings,
            self._settings.search == "on",
        )
        accounts, self._connections = Accounts(), Connections(self._settings)
        socket_path = path if handed is None else Path(handed.getsockname())
        self._inspector = DaemonInspector(
            self._store, self._connections, accounts, self._settings, socket_path
        )
        self._operations = Operations(self._store, accounts, self._inspector)
        self._server = Server(
            socket_path,
            self._operations,
            self._connections,
            handed=handed,
            access=access,
            limits=self._settings,
            mode=mode,
            group=self._settings.socket_group,
        )
        self._retention = Retention(self._store, self._settings)
        self._reporter = Reporter(self._manager, self._store, self._inspector.status)
        self._handle_signals()  # before, nothing could answer them: any ends the process
        try:
            await self._operations.start()
        except BaseException:
            await self._operations.close()
            await self._store.close()
            raise

    def _on_signal(self) -> None:
        """The first signal; the kernel answers the next one."""
        for signum in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_DFL)
        log.debug("stopping, after what was received; a second signal ends it at once")
        self.stop()

    async def _close(self) -> None:
        self._reporter.stopping()
        self._server.stop_accepting()
        self._operations.end_waits()
        try:
            await asyncio.wait_for(self._connections.drain(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("%d clients did not take their replies", len(self._connections))
        self._connections.abort_all()
        await self._retention.close()
        await self._operations.close()
        await self._store.close()
        await self._reporter.close()

    def _become_ready(self) -> None:
        self._is_ready = True
        if self._reload_is_due and self._reread is not None:
            self._reload(self._reread)

    def _reload(self, reread: Callable[[], Settings]) -> None:
        """Take over what may change while the daemon runs; all of it, or nothing."""
        if not self._is_ready:
            self._reload_is_due = True  # not now: it ends by saying that the daemon is ready
            return
        self._manager.reloading()
        outcome = "the configuration was not read again"
        try:
            outcome = self._take_over(reread())
        except InvalidRequest as error:
            outcome = f"the configuration stays as it was: {error}"
            log.error("%s", outcome)
        finally:
            self._manager.ready(outcome)

    def _take_over(self, wanted: Settings) -> str:
        """Gives what has become of it, in words. Raises InvalidRequest when nothing has."""
        names = Settings.__struct_fields__
        changed = [one for one in names if getattr(wanted, one) != getattr(self._settings, one)]
        fixed = [name for name in changed if name not in RELOADABLE]
        taken = {name: getattr(wanted, name) for name in changed if name in RELOADABLE}
        settings = msgspec.structs.replace(self._settings, **taken)
        access = _access(settings)
        self._settings = settings
        _take_all_descriptors(settings.max_connections + OTHER_FILES)
        set_log_level(settings)
        self._server.reconfigure(access, settings)
        self._store.reconfigure(settings)
        self._retention.reconfigure(settings)
        self._inspector.limits = settings
        outcome = f"the configuration was read again; changed: {', '.join(taken) or 'nothing'}"
        log.info("%s", outcome)
        if fixed:
            log.warning("changed only by a restart: %s", ", ".join(fixed))
        return outcome

    def _on_broken(self, error: StorageError) -> None:
        self._broken = error
        self.stop()


def _take_all_descriptors(wanted: int) -> None:
    """Open as many files as this process may: the soft limit is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < wanted:
        log.warning(
            "this process may have %d files open, and %d are wanted for as many connections as "
            "max_connections allows; connections beyond that are closed as they come. Raise its "
            "limit (LimitNOFILE in a unit, ulimit -n in a shell)",
            hard,
            wanted,
        )


def _access(settings: Settings) -> Access:
    """Who may do what. Raises InvalidRequest for a name that this machine does not know."""
    return Access(
        admins=settings.admins,
        writers=settings.writers,
        readers=settings.readers,
        others=settings.others,
        unseen_peers=settings.unseen_peers,
    )


def _make_directory(directory: Path, mode: int) -> None:
    """Make it, with this mode, to outlast a power cut, if it is not there; leave one that is there
    as it is."""
    try:
        make_directory(directory, mode)
    except OSError as error:
        raise StorageError(
            f"cannot make the directory {error.filename or directory}: {error.strerror}; give "
            "places this user may write to with --db and --socket"
        ) from error
