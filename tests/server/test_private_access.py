"""Who may do what in private channels, and who is told of it."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from server.models.acl import acl
from tests.server.samples import room
from tests.server.support import Colony
from tests.server.test_acl import put, rows, why

ATTIC = "attic"


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Ann and scout are in the attic; bob and rook are not."""
    room(colony, "scout", name=ATTIC)
    return colony


def test_an_agent_that_is_a_member_reads_and_writes_there(house: Colony) -> None:
    assert house.post(house.scout, "here I am", ATTIC).channel == ATTIC
    assert why(house, "scout", "post", f"channel:{ATTIC}")[0] == "allow"
    house.scout.call(operations.LEAVE, schema.LeaveChannel(channel=ATTIC))
    with pytest.raises(errors.NotFound, match=f"^no channel {ATTIC}$"):
        house.post(house.scout, "and now?", ATTIC)


def test_rows_about_it_are_told_to_members_alone(house: Colony) -> None:
    put(house.admin, "deny", "scout", "post", f"channel:{ATTIC}")
    row = f"scout deny post channel:{ATTIC}"
    assert row in " ".join(rows(house))
    assert ATTIC not in house.bob.call(operations.ACL, schema.ListAcl()).model_dump_json()
    in_sight, out_of_sight = (who.call(operations.EVENTS, schema.ListEvents()).model_dump_json() for who in (house.ann, house.bob))
    assert f"channel:{ATTIC}" in in_sight
    assert ATTIC not in out_of_sight
    for ask in (
        lambda: house.bob.call(operations.EXPLAIN_ACL, schema.ExplainAcl(user="scout", action="post", scope=f"channel:{ATTIC}")),
        lambda: house.bob.call(operations.DROP_ACL, schema.DropAcl(principal="scout", action="post", scope=f"channel:{ATTIC}")),
        lambda: put(house.bob, "deny", "rook", "post", f"channel:{ATTIC}"),
    ):
        with pytest.raises(errors.NotFound, match=f"^no channel {ATTIC}$"):
            ask()
    assert house.count(acl) == 1


def test_what_is_held_there_is_told_to_members_alone(house: Colony) -> None:
    put(house.admin, "hold", "scout", "post", f"channel:{ATTIC}")
    with pytest.raises(errors.Held):
        house.post(house.scout, "the plan", ATTIC)
    [told] = [message.body for message in house.read("ops") if "asks to" in message.body]
    assert "scout asks to post in a private channel" in told
    assert ATTIC not in told
    assert house.bob.call(operations.APPROVALS, schema.ListApprovals()).approvals == []
    [held] = house.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals
    assert ATTIC in held.arguments
    with pytest.raises(errors.NotFound):
        house.bob.call(operations.APPROVE, schema.Approve(id=held.id))
    house.ann.call(operations.APPROVE, schema.Approve(id=held.id))
    assert house.post(house.scout, "the plan", ATTIC).body == "the plan"


def test_a_call_that_is_held_everywhere_does_not_tell_that_there_is_one(house: Colony) -> None:
    put(house.admin, "hold", "bob", "post")
    refusals = []
    for channel in (ATTIC, "limbo"):
        with pytest.raises(errors.ColonyError) as refused:
            house.post(house.bob, "hello?", channel)
        refusals.append((type(refused.value), refused.value.detail.replace("#1", "#").replace("#2", "#")))
    assert refusals[0] == refusals[1]
