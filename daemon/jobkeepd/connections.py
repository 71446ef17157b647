"""All connections together: who is let in, and who gives way when memory runs out.

What lives here: the counts of connections, and the memory that they share. What may not: what one
connection says (that is `session`), and accepting (that is `server`).

No user can take what others need: connections are counted by user, a place in the queue of those
that have not said hello goes to the newest, and when the shared memory is used up, the user who
has most of it loses the connection that has most of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobkeep_protocol.errors import LimitExceeded
from jobkeepd.limits import Limits, exceeded

if TYPE_CHECKING:
    from jobkeepd.access import Peer
    from jobkeepd.session import Session


class SharedMemory:
    """What connections hold of one kind of memory, of which there is `maximum` in all.

    `size_of` gives what one of them holds at this moment, in bytes.
    """

    def __init__(
        self, limit: str, maximum: int, what: str, size_of: Callable[[Session], int]
    ) -> None:
        self._limit = limit
        self.maximum = maximum
        self._what = what
        self._size_of = size_of
        self._held: dict[Session, int] = {}
        self._total = 0

    def grown(self, session: Session) -> None:
        """This connection may hold more than before. May end it, or another."""
        self._weigh(session)
        if self._total <= self.maximum:
            return
        for one in list(self._held):  # what was taken meanwhile was not told
            self._weigh(one)
        while self._total > self.maximum:
            self._end(self._greediest())

    def ended(self, session: Session) -> None:
        """This connection holds nothing any more."""
        self._total -= self._held.pop(session, 0)

    def _weigh(self, session: Session) -> None:
        size = self._size_of(session)
        self._total += size - self._held.pop(session, 0)
        if size:
            self._held[session] = size

    def _greediest(self) -> Session:
        by_uid: Counter[int] = Counter()
        for session, size in self._held.items():
            by_uid[session.peer.uid] += size
        ((uid, _),) = by_uid.most_common(1)
        theirs = (session for session in self._held if session.peer.uid == uid)
        return max(theirs, key=self._held.__getitem__)

    def _end(self, session: Session) -> None:
        held = self._held[session]
        self.ended(session)
        session.give_way(
            exceeded(
                self._limit,
                self.maximum,
                f"this connection holds {held} bytes of {self._what}, and all together may hold "
                f"{self.maximum}",
                "send and ask for less at once, and read the replies",
            )
        )


class Connections:
    """The connections of a daemon. Belongs to its event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._one_ended = asyncio.Event()
        self._sessions: set[Session] = set()
        self._without_hello: dict[Session, None] = {}  # the one that waits longest comes first
        self._by_uid: Counter[int] = Counter()
        self.unsent = SharedMemory(
            "max_unsent_bytes",
            limits.max_unsent_bytes,
            "replies that were not taken",
            lambda session: session.unsent_bytes,
        )
        self.unfinished = SharedMemory(
            "max_unfinished_bytes",
            limits.max_unfinished_bytes,
            "messages that have come in part",
            lambda session: session.unfinished_bytes,
        )

    def reconfigure(self, limits: Limits) -> None:
        """Go by these limits from now on."""
        self._limits = limits
        self.unsent.maximum = limits.max_unsent_bytes
        self.unfinished.maximum = limits.max_unfinished_bytes

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Those that are open now, the oldest first."""
        return sorted(self._sessions, key=lambda session: session.connection_id)

    async def drain(self) -> None:
        """Answer what was received, then close every connection."""
        for session in self.all():
            session.end_streams()
            session.drain()
        while self._sessions:
            self._one_ended.clear()
            await self._one_ended.wait()

    def abort_all(self) -> None:
        """End every connection without answering."""
        for session in self.all():
            session.abort()

    def abort(self, connection_id: int) -> Peer | None:
        """End one connection without answering; gives whose it was, None when there is none."""
        for session in self._sessions:
            if session.connection_id == connection_id:
                session.abort()
                return session.peer
        return None

    def let_in(self, session: Session) -> None:
        """A peer has connected. Raises LimitExceeded when there is no place for it."""
        self._check_places(session.peer)
        if len(self._without_hello) >= self._limits.max_connections_without_hello:
            oldest = next(iter(self._without_hello))
            del self._without_hello[oldest]
            oldest.give_way(
                exceeded(
                    "max_connections_without_hello",
                    self._limits.max_connections_without_hello,
                    f"more than {self._limits.max_connections_without_hello} connections have not "
                    "said hello, this one for the longest",
                    "say hello with the first bytes",
                )
            )
        self._sessions.add(session)
        self._without_hello[session] = None
        self._by_uid[session.peer.uid] += 1

    def said_hello(self, session: Session) -> None:
        """A connection is a client's now."""
        self._without_hello.pop(session, None)

    def ended(self, session: Session) -> None:
        """A connection is gone, whether it was let in or not."""
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        self._without_hello.pop(session, None)
        uid = session.peer.uid
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]
        self.unsent.ended(session)
        self.unfinished.ended(session)
        self._one_ended.set()

    def _check_places(self, peer: Peer) -> None:
        places = self._limits.max_connections
        if not peer.is_owner:
            places -= self._limits.reserved_connections
        if len(self._sessions) >= places:
            raise self._full("max_connections", self._limits.max_connections, "are open in all")
        if self._by_uid[peer.uid] >= self._limits.max_connections_per_uid:
            raise self._full(
                "max_connections_per_uid",
                self._limits.max_connections_per_uid,
                f"of uid {peer.uid} are open",
            )

    def _full(self, limit: str, maximum: int, which: str) -> LimitExceeded:
        return exceeded(
            limit,
            maximum,
            f"no more connections: as many as are allowed ({maximum}) {which}",
            "close some; one client serves all tasks or threads of a process",
        )
