"""For who is no member a private channel is not there: every operation, asked for it and for what is nowhere, answers alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from colony import errors, operations, schema
from colony.client import Client
from colony.operations import OPERATIONS, Operation
from server.models import event
from tests.server.following import START
from tests.server.rooms import add
from tests.server.samples import contact, room
from tests.server.support import Colony

ATTIC, NOWHERE = "attic", "limbo"
SECRET = "marzipan"  # what is said in the attic, and its topic
NOBODYS = 10**6  # an id that nothing has
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)


@dataclass(frozen=True)
class Place:
    """What a request can name: a channel, and what is in it."""

    channel: str = NOWHERE
    message: int = NOBODYS
    item: int = NOBODYS
    turn: int = NOBODYS


ASKED: dict[str, Callable[[Place], schema.Request]] = {
    "whoami": lambda at: schema.Whoami(),
    "users": lambda at: schema.ListUsers(),
    "create_user": lambda at: schema.CreateUser(username="zoe", kind="ape"),
    "issue_token": lambda at: schema.IssueToken(username="ann"),
    "revoke_token": lambda at: schema.RevokeToken(username="ann"),
    "remove_user": lambda at: schema.RemoveUser(username="ann"),
    "channels": lambda at: schema.ListChannels(),
    "create_channel": lambda at: schema.CreateChannel(name="garden"),  # its own name can't be hidden: see below
    "watch": lambda at: schema.WatchChannel(channel=at.channel),
    "unwatch": lambda at: schema.UnwatchChannel(channel=at.channel),
    "members": lambda at: schema.ListMembers(channel=at.channel),
    "invite": lambda at: schema.InviteMembers(channel=at.channel, usernames=["bob", "nobody"]),
    "leave": lambda at: schema.LeaveChannel(channel=at.channel),
    "remove_member": lambda at: schema.RemoveMember(channel=at.channel, username="ann"),
    "read": lambda at: schema.ReadMessages(channel=at.channel),
    "post": lambda at: schema.PostMessage(channel=at.channel, body="@ann", reply_to=at.message),
    "explain": lambda at: schema.ExplainMessage(id=at.message),
    "retry": lambda at: schema.RetryMessage(id=at.message),
    "inbox": lambda at: schema.ReadInbox(),
    "ack": lambda at: schema.AckInbox(ids=[at.item]),
    "claim": lambda at: schema.ClaimTurn(),
    "finish": lambda at: schema.FinishTurn(id=at.turn, reply="done"),
    "fail": lambda at: schema.FailTurn(id=at.turn, code="crashed"),
    "renew": lambda at: schema.RenewTurn(id=at.turn),
    "stop": lambda at: schema.StopTurn(id=at.turn),
    "turn": lambda at: schema.GetTurn(id=at.turn),
    "turns": lambda at: schema.ListTurns(agent="scout"),
    "agents": lambda at: schema.ListAgents(),
    "heartbeat": lambda at: schema.Heartbeat(agent="rook"),
    "set_status": lambda at: schema.SetStatus(agent="scout", status="healthy"),
    "set_owner": lambda at: schema.SetOwner(agent="scout", owner="bob"),
    "set_limits": lambda at: schema.SetLimits(agent="scout", turns_per_hour=100),
    "events": lambda at: schema.ListEvents(since=START, limit=500),
    "egress_rules": lambda at: schema.ListEgress(agent="scout"),
    "set_egress": lambda at: schema.SetEgress(agent="scout", effect="allow", host="pypi.org"),
    "drop_egress": lambda at: schema.DropEgress(agent="scout", host="pypi.org"),
    "egress_policy": lambda at: schema.GetEgressPolicy(),
    "record_egress": lambda at: schema.RecordEgress(contacts=[]),
    "meter": lambda at: schema.Meter(id=str(UUID(int=1)), linux_user="nobody", model="m", cost_usd=0.0),
    "egress_log": lambda at: schema.ReadEgressLog(agent="scout", turn=at.turn),
    "acl": lambda at: schema.ListAcl(),
    "set_acl": lambda at: schema.SetAcl(principal="scout", action="post", scope=f"channel:{at.channel}", effect="deny"),
    "drop_acl": lambda at: schema.DropAcl(principal="scout", action="post", scope=f"channel:{at.channel}"),
    "explain_acl": lambda at: schema.ExplainAcl(user="scout", action="post", scope=f"channel:{at.channel}"),
    "roles": lambda at: schema.ListRoles(),
    "join_role": lambda at: schema.JoinRole(role="editors", username="ann"),
    "leave_role": lambda at: schema.LeaveRole(role="editors", username="ann"),
    "approvals": lambda at: schema.ListApprovals(),
    "approve": lambda at: schema.Approve(id=NOBODYS),
    "refuse": lambda at: schema.Refuse(id=NOBODYS),
    "secrets": lambda at: schema.ListSecrets(),
    "set_secret": lambda at: schema.SetSecret(agent="scout", name="TOKEN", value="a-secret-value", hosts=["api.example"]),
    "drop_secret": lambda at: schema.DropSecret(agent="scout", name="TOKEN"),
    "egress_secrets": lambda at: schema.GetEgressSecrets(),
}


def furnish(colony: Colony) -> tuple[Place, dict[str, Client]]:
    """An attic of ann's where scout works, and who is not in it: its owner, another agent, one who was there, and programs."""
    outside = {"owner": colony.bob, "agent": colony.rook, "former": add(colony, "cora", "ape")}
    outside |= {"gateway": add(colony, "gate", "gateway"), "service": add(colony, "meteor", "service")}
    colony.admin.call(operations.SET_OWNER, schema.SetOwner(agent="scout", owner="bob"))
    colony.admin.call(operations.SET_ACL, schema.SetAcl(principal="agents", action="events", effect="allow"))
    colony.admin.call(operations.SET_ACL, schema.SetAcl(principal="services", action="*", effect="allow"))
    colony.ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=ATTIC, topic=SECRET, private=True))
    colony.ann.call(operations.INVITE, schema.InviteMembers(channel=ATTIC, usernames=["scout", "cora"]))
    for member in (colony.ann, outside["former"], colony.scout):
        member.call(operations.WATCH, schema.WatchChannel(channel=ATTIC))
    asked = colony.post(colony.ann, f"@scout @cora {SECRET}", ATTIC)
    colony.post(outside["former"], f"@ann {SECRET}", ATTIC, client_id="mine")
    colony.ann.call(operations.REMOVE_MEMBER, schema.RemoveMember(channel=ATTIC, username="cora"))
    colony.inbox(colony.ann)
    turn = colony.turn(colony.scout)
    colony.post(colony.in_turn(turn), f"{SECRET} indeed", ATTIC)
    assert turn.channel == ATTIC
    colony.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[contact(colony, "scout")]))
    return Place(ATTIC, asked.id, colony.inbox(colony.ann)[0].id, turn.id), outside


def outcome(caller: Client, operation: Operation[Any, Any], request: schema.Request) -> tuple[str, str]:
    try:
        return "ok", caller.call(operation, request).model_dump_json()
    except errors.ColonyError as error:
        return error.code, error.detail


def mentions_place(ask: Callable[[Place], schema.Request]) -> bool:
    return any(ask(Place()) != ask(other) for other in (Place(channel="x"), Place(message=1), Place(item=1), Place(turn=1)))


def as_if_nowhere(refusal: str, there: Place) -> str:
    return re.sub(rf"\b({there.message}|{there.item}|{there.turn})\b", str(NOBODYS), refusal.replace(ATTIC, NOWHERE))


def test_the_table_holds_every_operation() -> None:
    assert ASKED.keys() == OPERATIONS.keys()


@every_operation
def test_who_is_no_member_learns_nothing_from_any_operation(colony: Colony, operation: Operation[Any, Any]) -> None:
    there, outside = furnish(colony)
    ask = ASKED[operation.name]
    for who, caller in outside.items():
        code, said = outcome(caller, operation, ask(there))
        assert SECRET not in said, who
        assert ATTIC not in said or code != "ok", who
        if mentions_place(ask):
            elsewhere = outcome(caller, operation, ask(Place()))
            assert (code, said if code == "ok" else as_if_nowhere(said, there)) == elsewhere, who


@pytest.mark.parametrize("name", ["channels", "read", "members", "explain", "turn", "turns", "agents", "events"])
def test_members_and_administrators_are_not_kept_out(colony: Colony, name: str) -> None:
    """So that what the others are refused is refused for that alone."""
    there, _ = furnish(colony)
    for caller in (colony.ann, colony.scout, colony.admin):
        code, said = outcome(caller, OPERATIONS[name], ASKED[name](there))
        assert code == "ok"
        assert ATTIC in said


def test_a_private_channel_s_name_is_taken_which_can_not_be_hidden(colony: Colony) -> None:
    room(colony, name=ATTIC)
    for private in (True, False):
        with pytest.raises(errors.Conflict, match=ATTIC):
            colony.bob.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=ATTIC, private=private))


def test_a_repeated_post_of_one_who_was_taken_out_is_not_answered(colony: Colony) -> None:
    _, outside = furnish(colony)
    for channel in (ATTIC, "general"):
        with pytest.raises(errors.NotFound, match=f"^no channel {channel}$"):
            colony.post(outside["former"], "again", channel, client_id="mine")


def test_a_public_message_tells_nothing_of_the_private_turn_that_posted_it(colony: Colony) -> None:
    there, outside = furnish(colony)
    turn = colony.admin.call(operations.TURN, schema.GetTurn(id=there.turn))
    said = colony.post(colony.in_turn(turn), "hello from somewhere")
    told = outside["owner"].call(operations.EXPLAIN, schema.ExplainMessage(id=said.id))
    assert (told.message, told.turns, told.answers) == (said, [], [])
    inside = colony.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=said.id))
    assert ([turn.id for turn in inside.turns], [each.channel for each in inside.answers]) == ([there.turn], [ATTIC, ATTIC])


def test_a_public_turn_does_not_show_what_it_posted_in_private(colony: Colony) -> None:
    room(colony, "scout", name=ATTIC)
    asked = colony.post(colony.ann, "@scout hello")
    turn = colony.turn(colony.scout)
    colony.post(colony.in_turn(turn), SECRET, ATTIC)
    colony.finish(turn, "done")
    for reader, posts in ((colony.bob, ["done"]), (colony.ann, [SECRET, "done"]), (colony.admin, [SECRET, "done"])):
        shown = reader.call(operations.TURN, schema.GetTurn(id=turn.id))
        explained = reader.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id)).turns[0]
        assert [post.body for post in shown.posts] == [post.body for post in explained.posts] == posts


def test_deeds_in_a_private_channel_are_told_to_its_members(colony: Colony) -> None:
    there, outside = furnish(colony)
    asked = schema.StopTurn(id=there.turn)
    colony.ann.call(operations.STOP, asked)
    colony.ann.call(operations.RETRY, schema.RetryMessage(id=there.message))

    def deeds(reader: Client) -> list[str]:
        found = reader.call(operations.EVENTS, schema.ListEvents(since=START, limit=500)).events
        return [each.deed.operation for each in found if each.deed and each.deed.operation != "set_acl"]

    everything = ["create_channel", "invite", "watch", "watch", "watch", "remove_member", "claim", "stop", "retry"]
    assert deeds(colony.ann) == deeds(colony.scout) == everything
    assert [deeds(reader) for reader in outside.values()] == [[]] * len(outside)
    assert [each for each in deeds(colony.admin) if each in everything] == everything


def test_many_private_messages_do_not_hide_what_comes_after_them(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "MAX_SCANNED", 3)
    room(colony, name=ATTIC)
    first = colony.post(colony.ann, "before")
    for number in range(10):
        colony.post(colony.ann, f"{SECRET} {number}", ATTIC)
    last = colony.post(colony.ann, "after")
    seen, since = [], START
    while (page := colony.bob.call(operations.EVENTS, schema.ListEvents(since=since, limit=2))).position != since:
        seen += [each.message for each in page.events if each.message]
        since = page.position
    assert seen == [first, last]
    newest = colony.bob.call(operations.EVENTS, schema.ListEvents(limit=2))
    assert [each.message for each in newest.events if each.message] == [last]


def test_why_an_agent_waits_is_told_everywhere_and_so_quotes_nothing(colony: Colony) -> None:
    for channel in ("general", room(colony, "scout", name=ATTIC)):
        colony.post(colony.ann, "@scout", channel)
        turn = colony.turn(colony.scout)
        colony.fail(turn, "rate_limited", detail=SECRET, retry_in_seconds=900)
        (note,) = (agent.status_note for agent in colony.bob.call(operations.AGENTS, schema.ListAgents()).agents if agent.status_note)
        colony.post(colony.bob, "@scout", colony.open_channel(f"beside-{channel}"))
        (absence,) = (each.body for each in colony.read(f"beside-{channel}") if each.type == "notice")
        assert SECRET not in note + absence
        assert note.startswith("the model's API limits its rate")
        assert colony.ann.call(operations.TURN, schema.GetTurn(id=turn.id)).error == SECRET
        colony.clock.advance(901)
        colony.finish(colony.turn(colony.scout), "done")
        colony.finish(colony.turn(colony.scout), "done")
