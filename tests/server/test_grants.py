"""What somebody has passed on goes when they lose what they have passed it on from, and nothing else does."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable

import pytest

from colony import operations, schema
from tests.server.rooms import add
from tests.server.support import Colony, only_sqlite
from tests.server.test_acl import drop, house, put, read, rows

__all__ = ["house"]
GARDEN = "channel:garden"


def pass_on(house: Colony) -> None:
    """From the colony to ann as an editor, from her to bob and from him to rook; and what else they and administrators have said."""
    house.admin.call(operations.JOIN_ROLE, schema.JoinRole(role="editors", username="ann"))
    put(house.admin, "allow", "role:editors", "read", GARDEN, grant_option=True)
    put(house.ann, "allow", "bob", "read", GARDEN, grant_option=True)
    put(house.bob, "allow", "rook", "read", GARDEN)
    put(house.bob, "allow", "scout", "read", "channel:attic")  # which is his
    put(house.bob, "allow", "rook", "turn", "agent:scout")
    put(house.bob, "deny", "scout", "post", GARDEN)
    put(house.admin, "allow", "scout", "read", GARDEN)


STAYS = ["rook allow turn agent:scout", "scout allow read channel:attic", f"scout allow read {GARDEN}", f"scout deny post {GARDEN}"]
LOSES: dict[str, Callable[[Colony], object]] = {
    "forgotten": lambda house: drop(house.admin, "role:editors", "read", GARDEN),
    "not to be passed on": lambda house: put(house.admin, "allow", "role:editors", "read", GARDEN),
    "denied": lambda house: put(house.admin, "deny", "role:editors", "read", GARDEN),
    "without the role": lambda house: house.admin.call(operations.LEAVE_ROLE, schema.LeaveRole(role="editors", username="ann")),
    "gone": lambda house: house.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="ann")),
}


@pytest.mark.parametrize("how", LOSES)
def test_what_was_passed_on_goes_with_what_it_came_from(house: Colony, how: str) -> None:
    pass_on(house)
    assert read(house.rook, "garden") == []
    LOSES[how](house)
    left = house.admin.call(operations.ACL, schema.ListAcl()).rows
    assert sorted(str(row) for row in left if row.principal != "role:editors") == STAYS


def test_what_does_not_hang_on_it_stays(house: Colony) -> None:
    pass_on(house)
    before = rows(house)
    put(house.admin, "deny", "ann", "post", "channel:attic")
    drop(house.admin, "ann", "post", "channel:attic")
    put(house.admin, "allow", "role:editors", "read", "channel:*", grant_option=True)
    drop(house.admin, "role:editors", "read", GARDEN)
    assert set(before) - set(rows(house)) == {f"role:editors allow read {GARDEN}"}


@only_sqlite
def test_two_do_not_keep_what_they_have_passed_on_to_each_other(house: Colony) -> None:
    put(house.admin, "allow", "ann", "read", GARDEN, grant_option=True)
    put(house.ann, "allow", "bob", "read", GARDEN, grant_option=True)
    house.admin.call(operations.JOIN_ROLE, schema.JoinRole(role="editors", username="ann"))
    put(house.bob, "allow", "role:editors", "read", GARDEN, grant_option=True)
    drop(house.admin, "ann", "read", GARDEN)
    assert rows(house) == []


@only_sqlite
def test_what_an_administrator_sets_under_a_name_of_their_own_hangs_on_nothing(house: Colony) -> None:
    add(house, "cora", "ape", linux_user=pwd.getpwuid(os.geteuid()).pw_name)
    assert put(house.admin, "allow", "rook", "read", GARDEN).granted_by == "cora"
    put(house.admin, "deny", "cora", "post", GARDEN)
    drop(house.admin, "cora", "post", GARDEN)
    assert rows(house) == [f"rook allow read {GARDEN}"]
