"""Who is at the other end of a socket, and what they may do."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from jobkeep_protocol.errors import PermissionDenied
from jobkeep_protocol.messages import Delete, Load, RecordExecution, Request
from jobkeepd.access import Peer, check_role, role_of

REQUESTS = (Load("job"), RecordExecution("job", 1, 1), Delete("job"))


def peer(uid: int) -> Peer:
    """A process of this user."""
    return Peer(1, uid, uid, shares_pids=True, role=role_of(uid))


def test_kernel_tells_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        told = Peer.of(ours)
        assert (told.pid, told.uid, told.gid) == (os.getpid(), os.geteuid(), os.getegid())
        assert told == Peer.this_process()


@pytest.mark.parametrize("uid", [0, os.geteuid()])
@pytest.mark.parametrize("request_", REQUESTS, ids=["read", "write", "admin"])
def test_root_and_the_owner_may_do_everything(uid: int, request_: Request[Any]) -> None:
    check_role(peer(uid), request_)


def test_others_may_read_and_write_and_not_administrate() -> None:
    other = peer(os.geteuid() + 1)
    read, write, admin = REQUESTS
    check_role(other, read)
    check_role(other, write)

    with pytest.raises(PermissionDenied, match="delete needs the role admin") as refused:
        check_role(other, admin)

    assert refused.value.data == {"operation": "delete", "role": "admin", "uid": other.uid}
