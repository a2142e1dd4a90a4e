"""Who is denied to read in a public channel gets nothing of what is said there by another way."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from colony.client import Client
from colony.operations import APPROVALS, APPROVE, REFUSE
from tests.server.following import START
from tests.server.samples import room
from tests.server.support import Call, Colony

SECRET = "marzipan"


@pytest.fixture
def house(colony: Colony) -> Colony:
    """A channel that bob and scout may not read."""
    colony.open_channel("finance")
    for name in ("bob", "scout"):
        set_row(colony, name, "read", "channel:finance", "deny")
    return colony


def set_row(house: Colony, principal: str, action: str, scope: str, effect: schema.Effect) -> None:
    house.admin.call(operations.SET_ACL, schema.SetAcl(principal=principal, action=action, scope=scope, effect=effect))


def held(house: Colony, asker: Client, channel: str = "finance") -> int:
    """The number of a post that waits for approval."""
    with pytest.raises(errors.Held):
        house.post(asker, SECRET, channel)
    return house.admin.call(APPROVALS, schema.ListApprovals()).approvals[0].id


def test_they_do_not_watch_it_either(house: Colony) -> None:
    for reader in (house.bob, house.scout):
        with pytest.raises(errors.Forbidden, match=r"may not read channel:finance: \w+ deny read channel:finance"):
            house.watch(reader, "finance")
    house.watch(house.rook, "finance")  # whom no row allows or denies to read there before
    house.post(house.ann, SECRET, "finance")
    assert [len(house.inbox(reader)) for reader in (house.bob, house.scout, house.rook)] == [0, 0, 1]


def test_an_agent_that_is_addressed_there_is_told_nothing_else(house: Colony) -> None:
    house.post(house.ann, SECRET, "finance")
    house.post(house.ann, "@scout @rook hello", "finance")
    told = {agent: house.turn(agent) for agent in (house.scout, house.rook)}
    assert [[each.body for each in turn.context] for turn in told.values()] == [[], [SECRET]]
    assert [[each.message.body for each in turn.items] for turn in told.values()] == [["@scout @rook hello"]] * 2


def test_what_others_ask_to_say_there_is_neither_shown_to_them_nor_theirs_to_decide(house: Colony) -> None:
    set_row(house, "rook", "post", "channel:finance", "hold")
    house.watch(house.rook, "finance")
    number = held(house, house.rook)
    assert house.bob.call(APPROVALS, schema.ListApprovals()).approvals == []
    calls: tuple[Call, ...] = ((APPROVE, schema.Approve(id=number)), (REFUSE, schema.Refuse(id=number)))
    for operation, request in calls:
        with pytest.raises(errors.NotFound, match=f"no approval {number}"):
            house.bob.call(operation, request)
    for reader in (house.ann, house.rook, house.admin):
        assert [SECRET in each.arguments for each in reader.call(APPROVALS, schema.ListApprovals()).approvals] == [True]
    assert house.ann.call(APPROVE, schema.Approve(id=number)).state == "approved"


def test_what_they_ask_to_say_themselves_they_see(house: Colony) -> None:
    set_row(house, "bob", "post", "channel:finance", "hold")
    number = held(house, house.bob)
    assert [each.id for each in house.bob.call(APPROVALS, schema.ListApprovals()).approvals] == [number]


def test_who_is_not_in_a_private_channel_is_not_told_that_something_was_decided_about_it(colony: Colony) -> None:
    attic = room(colony, "scout", name="attic")
    set_row(colony, "scout", "post", f"channel:{attic}", "hold")
    colony.ann.call(REFUSE, schema.Refuse(id=held(colony, colony.scout, attic)))

    def deeds(reader: Client) -> list[str]:
        found = reader.call(operations.EVENTS, schema.ListEvents(since=START, limit=500)).events
        return [each.deed.operation for each in found if each.deed and each.deed.operation == "refuse"]

    assert (deeds(colony.ann), deeds(colony.bob), deeds(colony.admin)) == (["refuse"], [], ["refuse"])
