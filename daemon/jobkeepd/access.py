"""Who is at the other end of a connection, and what they may do.

What lives here: peer credentials, and the rules that turn a user and their groups into a role. What
may not: reading or writing on the connection.

The credentials are those of the moment of connect(2) (unix(7), SO_PEERCRED), told by the kernel
and not by the peer: a connection that is handed on keeps those of who made it. Who may connect at
all is decided by the mode of the socket, and by the setting `others`.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jobkeep_protocol.errors import InvalidRequest, PermissionDenied
from jobkeep_protocol.request import Request, Role, name_of
from jobkeepd.processes import shares_our_pids
from jobkeepd.settings import AnyRole, UnseenPeers

SO_PEERGROUPS = 59
"""The peer's supplementary groups, Linux 4.13 (asm-generic/socket.h); not in Python's `socket`."""

MAX_GROUPS_BYTES = 1_024
"""The most that Python's getsockopt takes: 256 groups."""

_CREDENTIALS = struct.Struct("3i")
_RANKS: dict[AnyRole, int] = {"none": -1, "read": 0, "write": 1, "admin": 2}
_KINDS = "uid:NUMBER, user:NAME, gid:NUMBER or group:NAME"


class Peer(NamedTuple):
    """The process that opened a connection. `pid` is 0 when it is outside our pid namespace.

    `shares_pids` says whether the pids it speaks of mean the same to us, `role` what it may do.
    """

    pid: int
    uid: int
    gid: int
    shares_pids: bool
    role: AnyRole

    @property
    def is_owner(self) -> bool:
        """Whether it is root, or the user that the daemon runs as."""
        return is_owner(self.uid)

    @property
    def fields(self) -> dict[str, Any]:
        """What log lines about it can be found by (`journal`)."""
        return {"client_pid": self.pid, "client_uid": self.uid}

    @classmethod
    def this_process(cls) -> Peer:
        """Ourselves, for a backend that is embedded."""
        return cls(os.getpid(), os.geteuid(), os.getegid(), shares_pids=True, role="admin")

    def __str__(self) -> str:
        return f"uid {self.uid}, pid {self.pid} ({command_of(self.pid)})"


def is_owner(uid: int) -> bool:
    """Whether a user is root, or the one that the daemon runs as."""
    return uid in {0, os.geteuid()}


def command_of(pid: int) -> str:
    """The name of a process's command (proc(5), comm) as it is now; `?` for one that is gone."""
    try:
        comm = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "?"
    return "".join(one if one.isprintable() else "?" for one in comm.rstrip("\n"))


class Access:
    """Which role a peer has.

    Root and the daemon's own user are administrators. Of all others, whoever is named by their uid
    has the role that names it; else whoever is in a named group has the highest role of these; else
    `others` says. Raises InvalidRequest for a name that is not understood or not known.
    """

    def __init__(
        self,
        *,
        admins: Iterable[str] = (),
        writers: Iterable[str] = (),
        readers: Iterable[str] = (),
        others: AnyRole = "write",
        unseen_peers: UnseenPeers = "refuse",
    ) -> None:
        self._others: AnyRole = others
        self._unseen_peers = unseen_peers
        self._overflow_uid = overflow_uid()
        self._by_uid: dict[int, Role] = {}
        self._by_gid: dict[int, Role] = {}
        named: tuple[tuple[Role, Iterable[str]], ...] = (
            ("read", readers),
            ("write", writers),
            ("admin", admins),
        )
        for role, names in named:  # the highest last, so that it stays
            for name in names:
                is_group, number = _number_of(name)
                (self._by_gid if is_group else self._by_uid)[number] = role

    def peer_of(self, connection: Any) -> Peer:
        """The peer of a connected Unix socket, who may have no role.

        Raises PermissionDenied when it has more groups than can be asked for.
        """
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        role = self.role_of(uid, (gid, *_groups_of(connection)) if self._by_gid else ())
        return Peer(pid, uid, gid, pid > 0 and shares_our_pids(pid), role)

    def check_entry(self, peer: Peer) -> None:
        """Refuse a peer that has no role, or of whom it cannot be told who it is.

        Raises PermissionDenied.
        """
        if peer.uid == self._overflow_uid:
            reason = (
                f"uid {peer.uid} stands for every user that this user namespace does not know, so "
                "it cannot be told who connects; map the user, or run the daemon outside"
            )
        elif peer.pid == 0 and self._unseen_peers == "refuse":
            reason = (
                f"the process of uid {peer.uid} that connects is outside the pid namespace of the "
                "daemon, which could not tell when it dies; run both in one, or start the daemon "
                "with `--unseen-peers allow`: then nothing that it claims is given back by itself"
            )
        elif peer.role == "none":
            reason = (
                f"uid {peer.uid} has no role here; one of `--readers`, `--writers` and `--admins` "
                "of the daemon has to name it"
            )
        else:
            return
        raise PermissionDenied(reason, {"role": "read", "uid": peer.uid})

    def role_of(self, uid: int, gids: Iterable[int] = ()) -> AnyRole:
        """What a user with these groups may do."""
        if is_owner(uid):
            return "admin"
        if (own := self._by_uid.get(uid)) is not None:
            return own
        found: list[AnyRole] = [self._by_gid[gid] for gid in gids if gid in self._by_gid]
        return max(found, key=lambda role: _RANKS[role], default=self._others)


def check_role(peer: Peer, request: Request[Any]) -> None:
    """Refuse what the peer's role does not cover.

    Raises PermissionDenied, naming the role that is needed.
    """
    needed = request.role_needed
    if _RANKS[peer.role] < _RANKS[needed]:
        name = name_of(type(request))
        raise PermissionDenied(
            f"{name} needs the role {needed}, and uid {peer.uid} has the role {peer.role}; "
            f"run it as root or as the user of the daemon, or have `--{needed}s` of the "
            "daemon name this user",
            {"operation": name, "role": needed, "uid": peer.uid},
        )


def overflow_uid() -> int:
    """The uid that stands for users without a mapping (user_namespaces(7)): 65534 as a rule."""
    return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))


def _groups_of(connection: Any) -> Iterable[int]:
    """The supplementary groups of the peer, as they were when it connected."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        raise PermissionDenied(
            f"a user in more than {MAX_GROUPS_BYTES // 4} groups cannot be given a role by group; "
            "leave some groups, or name no groups in the settings of the daemon",
            {"role": "read"},
        ) from error
    return struct.unpack(f"{len(raw) // 4}I", raw)


def number_of_group(name: str) -> int:
    """The number of a group, given by its name or its number.

    Raises InvalidRequest for one that this machine does not know.
    """
    return _number_of(f"gid:{name}" if name.isdecimal() else f"group:{name}")[1]


def _number_of(name: str) -> tuple[bool, int]:
    """Whether a name of the settings names a group, and its number."""
    kind, _, value = name.partition(":")
    try:
        match kind:
            case "uid" | "gid":
                number = int(value)
                if number < 0:
                    raise ValueError(value)
            case "user":
                number = pwd.getpwnam(value).pw_uid
            case "group":
                number = grp.getgrnam(value).gr_gid
            case _:
                raise ValueError(kind)
    except KeyError:
        raise InvalidRequest(
            f"{name!r} is given a role, and this machine knows no such {kind}; expected one that "
            f"exists, or a number ({_KINDS})"
        ) from None
    except ValueError:
        raise InvalidRequest(f"{name!r} is given a role; expected {_KINDS}") from None
    return kind in {"gid", "group"}, number
