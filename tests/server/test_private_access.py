"""Who may do what in private channels, and who is told of it."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.models.acl import acl
from tests.server.reaching import settle
from tests.server.rooms import add
from tests.server.samples import contact, room
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
    assert "scout asks to post" in told
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


def test_what_is_held_about_a_channel_tells_nobody_that_there_is_one(house: Colony) -> None:
    """Neither when one is opened, nor when a row is set for it, nor when a stranger asks."""
    put(house.admin, "hold", "apes", "create_channel")
    put(house.admin, "hold", "apes", "set_acl")
    put(house.admin, "hold", "bob", "post")
    for held in (
        lambda: house.ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name="merger", topic="with acme", private=True)),
        lambda: put(house.ann, "deny", "scout", "read", f"channel:{ATTIC}"),
        lambda: house.post(house.bob, "hello?", ATTIC),
        lambda: house.post(house.bob, "hello?", "limbo"),
    ):
        with pytest.raises(errors.Held):
            held()
    told = " ".join(message.body for message in house.read("ops"))
    seen = house.bob.call(operations.APPROVALS, schema.ListApprovals()).approvals
    for secret in (ATTIC, "merger", "acme"):
        assert secret not in told
        assert secret not in "".join(each.arguments for each in seen if each.user != "bob")
    assert {each.arguments for each in seen if each.user == "bob"} == {
        f'{{"channel": "{name}", "body": "hello?"}}' for name in (ATTIC, "limbo")
    }
    assert ATTIC in house.ann.call(operations.APPROVALS, schema.ListApprovals()).model_dump_json()


def test_who_is_given_a_persons_name_again_does_not_see_what_they_asked_there(house: Colony) -> None:
    house.ann.call(operations.INVITE, schema.InviteMembers(channel=ATTIC, usernames=["bob"]))
    put(house.admin, "hold", "bob", "post")
    with pytest.raises(errors.Held):
        house.post(house.bob, "the offer to acme", ATTIC)
    assert "acme" in house.bob.call(operations.APPROVALS, schema.ListApprovals()).model_dump_json()
    house.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="bob"))
    house.clock.advance(1)
    again = add(house, "bob", "ape")
    assert again.call(operations.APPROVALS, schema.ListApprovals(all=True)).approvals == []
    assert "acme" in house.ann.call(operations.APPROVALS, schema.ListApprovals(all=True)).model_dump_json()


def test_what_an_agent_reaches_there_its_owner_outside_is_not_told(house: Colony) -> None:
    settle(house)
    house.post(house.ann, "@scout look at merger.example", ATTIC)
    turn = house.turn(house.scout)
    seen = contact(house, "scout", "merger.example", verdict="allowed")
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[seen]))
    house.finish(turn, "done")
    house.clock.advance(1)
    elsewhere = contact(house, "scout", "pypi.org", verdict="allowed")
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[elsewhere]))

    def log(who: Client) -> list[tuple[str, int | None]]:
        found = who.call(operations.EGRESS_LOG, schema.ReadEgressLog(agent="scout")).contacts
        return [(entry.host, entry.turn_id) for entry in found]

    assert log(house.admin) == log(house.scout) == [("pypi.org", None), ("merger.example", turn.id)]
    assert log(house.bob) == [("pypi.org", None)]
    house.ann.call(operations.INVITE, schema.InviteMembers(channel=ATTIC, usernames=["bob"]))
    assert log(house.bob) == log(house.admin)
    house.scout.call(operations.LEAVE, schema.LeaveChannel(channel=ATTIC))
    assert log(house.scout) == [("pypi.org", None)]


def test_ops_hears_that_a_host_was_reached_there_and_not_which(house: Colony) -> None:
    settle(house)
    house.post(house.ann, "@scout", ATTIC)
    house.turn(house.scout)
    seen = contact(house, "scout", "merger.example", verdict="allowed")
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[seen]))
    said = "@bob scout reaches a host for the first time, in a private channel: administrators see it in `colony egress log scout`."
    assert [message.body for message in house.read("ops")] == [said]


def test_an_agent_that_names_who_is_not_there_is_not_left_in_the_dark(house: Colony) -> None:
    house.post(house.ann, "@scout", ATTIC)
    house.finish(house.turn(house.scout), "@rook knows that")
    said = [message.body for message in house.ann.call(operations.READ, schema.ReadMessages(channel=ATTIC)).messages]
    assert said[-2:] == ["@rook knows that", "rook can't be told of #3: no member of this channel."]
