"""Who is at the other end of a socket, and what they may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest, PermissionDenied
from jobkeep_protocol.messages import Delete, Load, RecordExecution
from jobkeep_protocol.request import Request
from jobkeepd.access import Access, Peer, check_role, command_of, overflow_uid
from jobkeepd.settings import AnyRole

REQUESTS = (Load("job"), RecordExecution("job", 1, 1), Delete("job"))
STRANGER = os.geteuid() + 4_242


def peer(role: AnyRole, uid: int = STRANGER, pid: int = 1) -> Peer:
    """A process of this user, with this role."""
    return Peer(pid, uid, uid, shares_pids=True, role=role)


# -- who it is ----------------------------------------------------------------------------------


def test_kernel_tells_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        told = Access(admins=["gid:1"]).peer_of(ours)

    assert (told.pid, told.uid, told.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert told == Peer.this_process()
    assert str(told) == f"uid {os.geteuid()}, pid {os.getpid()} ({command_of(os.getpid())})"


def test_command_of_a_process_that_is_gone_is_a_question_mark() -> None:
    assert command_of(2**22 + 1) == "?"


@pytest.mark.parametrize(
    ("who", "words"),
    [
        (peer("write", uid=overflow_uid()), "every user that this user namespace does not know"),
        (peer("write", pid=0), "outside the pid namespace of the daemon"),
        (peer("none"), "has no role here; one of `--readers`, `--writers` and `--admins`"),
    ],
)
def test_who_cannot_be_told_apart_or_watched_or_has_no_role_is_refused(
    who: Peer, words: str
) -> None:
    with pytest.raises(PermissionDenied, match=words):
        Access().check_entry(who)


def test_process_that_cannot_be_seen_is_let_in_where_that_is_set() -> None:
    Access(unseen_peers="allow").check_entry(peer("write", pid=0))


# -- which role ---------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_root_and_the_owner_are_administrators_whatever_is_set(uid: int) -> None:
    assert Access(readers=[f"uid:{uid}"], others="none").role_of(uid) == "admin"


@pytest.mark.parametrize("others", ["none", "read", "write", "admin"])
def test_who_is_not_named_has_the_role_of_others(others: AnyRole) -> None:
    assert Access(others=others).role_of(STRANGER, [7]) == others
    assert Access().role_of(STRANGER, [7]) == "write"


def test_name_of_a_user_comes_before_those_of_groups_and_the_highest_group_counts() -> None:
    access = Access(admins=["gid:7"], writers=["gid:8"], readers=["uid:5001", "gid:9"])

    assert access.role_of(5001, [7]) == "read"
    assert access.role_of(5002, [9, 7, 8]) == "admin"
    assert access.role_of(5002, [9, 8]) == "write"
    assert access.role_of(5002, [9]) == "read"


def test_users_and_groups_may_be_given_by_name() -> None:
    user = pwd.getpwuid(1)
    group = grp.getgrgid(2)
    access = Access(
        admins=[f"user:{user.pw_name}"], readers=[f"group:{group.gr_name}"], others="none"
    )

    assert access.role_of(user.pw_uid) == "admin"
    assert access.role_of(STRANGER, [group.gr_gid]) == "read"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ops", "'ops' is given a role; expected uid:NUMBER"),
        ("uid:ops", "'uid:ops' is given a role; expected uid:NUMBER"),
        ("gid:-1", "'gid:-1' is given a role; expected uid:NUMBER"),
        ("user:nobody at all", "knows no such user; expected one that exists"),
        ("group:nobody at all", "knows no such group; expected one that exists"),
    ],
)
def test_name_that_is_not_understood_is_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Access(writers=[name])


# -- what a role may do -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "allowed"), [("none", 0), ("read", 1), ("write", 2), ("admin", 3)]
)
def test_each_role_includes_those_before_it(role: AnyRole, allowed: int) -> None:
    for request in REQUESTS[:allowed]:
        check_role(peer(role), request)
    for request in REQUESTS[allowed:]:
        with pytest.raises(PermissionDenied):
            check_role(peer(role), request)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (REQUESTS[1], "record_execution needs the role write, .* has the role read"),
        (REQUESTS[2], "delete needs the role admin, .* has the role read"),
    ],
    ids=["write", "admin"],
)
def test_denial_names_the_role_that_is_needed(request_: Request[Any], words: str) -> None:
    with pytest.raises(PermissionDenied, match=words) as denied:
        check_role(peer("read"), request_)

    assert denied.value.data["role"] == request_.role
    assert denied.value.data["uid"] == STRANGER
