"""Who is at the other end of a connection, and what they may do.

What lives here: peer credentials and the rule that turns a user into a role. What may not: reading
or writing on the connection.

The credentials are those of the moment of connect(2) (unix(7), SO_PEERCRED), told by the kernel
and not by the peer. Who may connect at all is decided by the mode of the socket.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, NamedTuple

from jobkeep_protocol.errors import PermissionDenied
from jobkeep_protocol.messages import Request, Role, operation_name
from jobkeepd.processes import shares_our_pids

_CREDENTIALS = struct.Struct("3i")
_RANKS: dict[Role, int] = {"read": 0, "write": 1, "admin": 2}


class Peer(NamedTuple):
    """The process that opened a connection. `pid` is 0 when it is outside our pid namespace.

    `shares_pids` says whether the pids it speaks of mean the same to us, `role` what it may do.
    """

    pid: int
    uid: int
    gid: int
    shares_pids: bool
    role: Role

    @classmethod
    def of(cls, connection: Any) -> Peer:
        """The peer of a connected Unix socket."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return cls(pid, uid, gid, pid > 0 and shares_our_pids(pid), role_of(uid))

    @classmethod
    def this_process(cls) -> Peer:
        """Ourselves, for a backend that is embedded."""
        uid = os.geteuid()
        return cls(os.getpid(), uid, os.getegid(), shares_pids=True, role=role_of(uid))


def role_of(uid: int) -> Role:
    """What a user may do: root and the daemon's own user all, others read and write."""
    return "admin" if uid in {0, os.geteuid()} else "write"


def check_role(peer: Peer, request: Request[Any]) -> None:
    """Refuse what the peer's role does not cover.

    Raises PermissionDenied, naming the role that is needed.
    """
    if _RANKS[peer.role] < _RANKS[request.role]:
        name = operation_name(type(request).__name__)
        raise PermissionDenied(
            f"{name} needs the role {request.role}, and uid {peer.uid} has the role {peer.role}; "
            "run it as root or as the user of the daemon",
            {"operation": name, "role": request.role, "uid": peer.uid},
        )
