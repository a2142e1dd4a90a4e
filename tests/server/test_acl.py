"""Who may do what: at the gate, whichever way a call comes; and who says so."""

from __future__ import annotations

from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.models.inbox import inbox
from server.waiters import Topic
from tests.server.reaching import bear_again, settle
from tests.server.support import Call, Colony


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and besides #general there are a garden and an attic."""
    settle(colony)
    colony.open_channel("garden")
    colony.open_channel("attic")
    return colony


def put(caller: Client, effect: schema.Effect, principal: str, action: str, scope: str = "*", **more: Any) -> schema.AclRow:
    return caller.call(operations.SET_ACL, schema.SetAcl(principal=principal, action=action, scope=scope, effect=effect, **more))


def drop(caller: Client, principal: str, action: str, scope: str = "*") -> schema.AclRow:
    return caller.call(operations.DROP_ACL, schema.DropAcl(principal=principal, action=action, scope=scope))


def why(colony: Colony, user: str, action: str, scope: str = "*") -> tuple[str, str]:
    found = colony.ann.call(operations.EXPLAIN_ACL, schema.ExplainAcl(user=user, action=action, scope=scope))
    return found.effect, found.reason


def rows(colony: Colony, **more: Any) -> list[str]:
    return [str(row) for row in colony.ann.call(operations.ACL, schema.ListAcl(**more)).rows]


def read(caller: Client, channel: str) -> list[str]:
    found = caller.call(operations.READ, schema.ReadMessages(channel=channel, since=0))
    return [message.body for message in found.messages]


# --- what holds by default


def test_an_agent_reads_and_writes_where_it_was_addressed(house: Colony) -> None:
    for attempt in (lambda: house.post(house.scout, "hi", "garden"), lambda: read(house.scout, "garden")):
        with pytest.raises(errors.Forbidden, match=r"scout may not (post|read) channel:garden: no row allows it"):
            attempt()
    house.post(house.ann, "@scout come in", "garden")
    house.post(house.scout, "here I am", "garden")
    assert read(house.scout, "garden") == ["@scout come in", "here I am"]
    turn = house.turn(house.scout)
    house.finish(turn, "done")
    house.gate.database.write(lambda connection: connection.execute(inbox.delete()))  # as a prune does after a week
    assert len(read(house.scout, "garden")) == 3
    with pytest.raises(errors.Forbidden):
        read(house.scout, "attic")


def test_who_is_born_again_takes_no_part_where_its_predecessor_did(house: Colony) -> None:
    asked = house.post(house.ann, "@scout the password of the garden is 123", "garden")
    former = house.turn(house.scout)
    house.finish(former, "noted")
    bear_again(house, "scout")
    for attempt in (lambda: read(house.scout, "garden"), lambda: house.post(house.scout, "hi", "garden")):
        with pytest.raises(errors.Forbidden, match="no row allows it"):
            attempt()
    with pytest.raises(errors.NotFound, match=f"no turn {former.id}"):
        house.scout.call(operations.TURN, schema.GetTurn(id=former.id))
    with pytest.raises(errors.NotFound):
        house.scout.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id))
    assert house.ann.call(operations.TURN, schema.GetTurn(id=former.id)).id == former.id
    house.post(house.ann, "@scout come in", "garden")
    turn = house.turn(house.scout)
    house.finish(turn, "here I am")
    assert read(house.scout, "garden")[-1] == "here I am"
    assert house.scout.call(operations.TURN, schema.GetTurn(id=turn.id)).state == "finished"


def test_an_agent_reads_and_writes_where_it_watches_and_in_the_commons(house: Colony) -> None:
    house.scout.call(operations.WATCH, schema.WatchChannel(channel="garden"))
    house.post(house.scout, "hi", "garden")
    house.scout.call(operations.UNWATCH, schema.UnwatchChannel(channel="garden"))
    with pytest.raises(errors.Forbidden):
        house.post(house.scout, "hi again", "garden")
    house.post(house.scout, "I am new here", "general")
    assert read(house.scout, "general") == ["I am new here"]


def test_within_a_turn_an_agent_does_not_widen_what_it_reads(house: Colony) -> None:
    house.post(house.ann, "@scout hello")
    inside = house.in_turn(house.turn(house.scout))
    with pytest.raises(errors.Forbidden, match=r"agents deny tool:watch \* \(by default\)"):
        inside.call(operations.WATCH, schema.WatchChannel(channel="garden"))
    assert inside.call(operations.CREATE_CHANNEL, schema.CreateChannel(name="shed")).watched
    house.post(inside, "mine", "shed")
    with pytest.raises(errors.Forbidden):
        inside.call(operations.EVENTS, schema.ListEvents())


def test_a_message_that_is_hidden_looks_like_none(house: Colony) -> None:
    said = house.post(house.ann, "@rook psst", "garden")
    for id in (said.id, 10**6):
        with pytest.raises(errors.NotFound, match=r"^no such message, or not visible to you$"):
            house.scout.call(operations.EXPLAIN, schema.ExplainMessage(id=id))
    assert house.rook.call(operations.EXPLAIN, schema.ExplainMessage(id=said.id)).message.id == said.id


def test_a_turn_is_shown_to_its_agent_and_to_no_other(house: Colony) -> None:
    house.post(house.ann, "@rook psst", "garden")
    turn = house.turn(house.rook)
    with pytest.raises(errors.Forbidden, match="scout may not turn agent:rook"):
        house.scout.call(operations.TURN, schema.GetTurn(id=turn.id))
    with pytest.raises(errors.NotFound, match="no turn 999"):
        house.scout.call(operations.TURN, schema.GetTurn(id=999))
    assert house.rook.call(operations.TURN, schema.GetTurn(id=turn.id)).id == turn.id


def test_who_may_not_read_a_channel_sees_nothing_of_it_elsewhere(house: Colony) -> None:
    before = house.ann.call(operations.EVENTS, schema.ListEvents()).position
    put(house.admin, "deny", "bob", "read", "channel:garden")
    asked = house.post(house.ann, "@scout hello", "garden")
    turn = house.turn(house.scout)
    aside = house.post(house.in_turn(turn), "an aside", "general")
    house.finish(turn, "an answer")

    def told(caller: Client) -> list[str]:
        events = caller.call(operations.EVENTS, schema.ListEvents(since=before)).events
        explained = caller.call(operations.EXPLAIN, schema.ExplainMessage(id=aside.id))
        shown = caller.call(operations.TURN, schema.GetTurn(id=turn.id))
        seen = [event.message for event in events if event.message] + explained.answers + explained.turns[0].posts
        return [message.body for message in (*seen, *(item.message for item in shown.items), *shown.posts)]

    assert told(house.bob) == ["an aside"] * 3
    whole = ["@scout hello", "an aside", "an answer"]
    assert told(house.ann) == [*whole, "@scout hello", "an aside", "an answer", *whole]
    with pytest.raises(errors.NotFound, match="no message"):
        house.bob.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id))
    put(house.admin, "allow", "rook", "events")
    events = house.rook.call(operations.EVENTS, schema.ListEvents(since=before)).events
    assert [event.message.body for event in events if event.message] == ["an aside"]


def test_an_agent_sees_its_own_inbox_alone_and_makes_no_user(house: Colony) -> None:
    house.post(house.ann, "@rook psst and @bob")
    for name in ("rook", "bob", "nobody"):
        with pytest.raises(errors.NotFound, match=f"no user {name}, or not visible to you"):
            house.scout.call(operations.INBOX, schema.ReadInbox(user=name))
    assert house.inbox(house.scout) == house.inbox(house.scout, user="scout") == []
    with pytest.raises(errors.Forbidden, match="create_user is for administrators"):
        house.scout.call(operations.CREATE_USER, schema.CreateUser(username="newt", kind="agent"))


def test_a_channel_that_is_none_is_not_found(house: Colony) -> None:
    put(house.admin, "deny", "bob", "read", "channel:*")
    for caller in (house.scout, house.bob):
        with pytest.raises(errors.NotFound, match="no channel gardn"):
            read(caller, "gardn")


# --- rows


def test_any_deny_wins_whoever_it_names(house: Colony) -> None:
    for principal in ("ann", "apes", "role:quiet"):
        put(house.admin, "deny", principal, "post", "channel:garden")
        house.admin.call(operations.JOIN_ROLE, schema.JoinRole(role="quiet", username="ann"))
        put(house.admin, "allow", "ann", "post", "channel:garden" if principal != "ann" else "channel:*")
        with pytest.raises(errors.Forbidden) as raised:
            house.post(house.ann, "hi", "garden")
        assert raised.value.detail == f"ann may not post channel:garden: {principal} deny post channel:garden (by colony)"
        assert why(house, "ann", "post", "channel:garden") == ("deny", f"{principal} deny post channel:garden (by colony)")
        house.post(house.ann, "hi", "attic")
        drop(house.admin, principal, "post", "channel:garden")
        house.post(house.ann, "hi", "garden")
    assert [row[1:3] for row in house.audit() if row[3] == "forbidden"] == [("ann", "refused")] * 3


def test_a_row_opens_to_an_agent_what_is_closed_by_default(house: Colony) -> None:
    put(house.admin, "allow", "agents", "read", "channel:*")
    put(house.admin, "allow", "rook", "*", "channel:attic")
    house.post(house.ann, "roses", "garden")
    assert read(house.scout, "garden") == read(house.rook, "garden") == ["roses"]
    house.post(house.rook, "dust", "attic")
    with pytest.raises(errors.Forbidden):
        house.post(house.scout, "dust", "attic")
    put(house.admin, "allow", "rook", "events")
    seen = house.rook.call(operations.EVENTS, schema.ListEvents()).events
    assert [event.message.body for event in seen if event.message] == ["roses", "dust"]


def test_a_row_opens_nothing_that_an_operation_keeps_to_some(house: Colony) -> None:
    put(house.admin, "allow", "agents", "*")
    calls: tuple[Call, ...] = (
        (operations.CREATE_USER, schema.CreateUser(username="newt", kind="agent")),
        (operations.SET_LIMITS, schema.SetLimits(agent="scout", turns_per_hour=9)),
        (operations.METER, schema.Meter(id="0" * 8 + "-0000-0000-0000-" + "0" * 12, linux_user="rook", model="m", cost_usd=0.0)),
    )
    for operation, request in calls:
        with pytest.raises(errors.Forbidden):
            house.rook.call(operation, request)
    assert why(house, "rook", "create_user")[0] == "deny"


def test_administrators_and_what_keeps_turns_going_are_not_judged(house: Colony) -> None:
    put(house.admin, "deny", "agents", "*")
    for kind in ("apes", "services"):
        put(house.admin, "deny", kind, "*")
    with pytest.raises(errors.Forbidden):
        house.scout.call(operations.WHOAMI, schema.Whoami())
    house.post(house.admin, "hello")
    turn = house.turn(house.scout, kind="pulse")
    house.heartbeat("scout")
    assert house.fail(turn).state == "failed"
    for kind in ("agents", "apes", "services"):
        drop(house.admin, kind, "*")
    house.scout.call(operations.WHOAMI, schema.Whoami())


def test_who_may_not_read_a_channel_is_not_told_what_a_turn_there_failed_of(house: Colony) -> None:
    put(house.admin, "deny", "bob", "read", "channel:garden")
    asked = house.post(house.ann, "@scout the code is 123", "garden")
    turn = house.turn(house.scout)
    elsewhere = house.post(house.in_turn(turn), "one moment")
    house.fail(turn, detail="the code 123 was refused", usage=schema.Usage(tools={"door-123": 1}))

    def told(who: Client) -> list[str]:
        shown = who.call(operations.TURN, schema.GetTurn(id=turn.id))
        explained = who.call(operations.EXPLAIN, schema.ExplainMessage(id=elsewhere.id))
        return [answer.model_dump_json() for answer in (shown, explained, who.call(operations.TURNS, schema.ListTurns()))]

    assert ["123" in answer for answer in told(house.ann)] == [True] * 3
    assert ["123" in answer for answer in told(house.bob)] == [False] * 3
    assert ["crashed" in answer for answer in told(house.bob)] == [True] * 3
    with pytest.raises(errors.NotFound):
        house.bob.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id))


def test_a_row_for_a_tool_counts_within_turns_alone(house: Colony) -> None:
    put(house.admin, "deny", "scout", "tool:post", "channel:garden")
    house.scout.call(operations.WATCH, schema.WatchChannel(channel="garden"))
    house.post(house.ann, "@scout hello")
    inside = house.in_turn(house.turn(house.scout))
    with pytest.raises(errors.Forbidden, match="scout deny tool:post channel:garden"):
        house.post(inside, "hi", "garden")
    house.post(house.scout, "hi", "garden")
    house.post(inside, "hi", "general")
    assert why(house, "scout", "post", "channel:garden")[0] == "allow"
    assert why(house, "scout", "tool:post", "channel:garden")[0] == "deny"


def test_a_turn_is_told_its_tools(house: Colony) -> None:
    house.post(house.ann, "@scout hello")
    put(house.admin, "deny", "scout", "tool:agents")
    put(house.admin, "deny", "agents", "users")
    put(house.admin, "deny", "scout", "post", "channel:garden")
    turn = house.turn(house.scout)
    assert turn.tools == ["whoami", "channels", "read", "post", "inbox"]
    with pytest.raises(errors.Forbidden, match="scout deny tool:agents"):
        house.in_turn(turn).call(operations.AGENTS, schema.ListAgents())
    put(house.admin, "deny", "scout", "*")
    assert house.turn(house.scout, take_over=True).tools == []


def test_who_waits_is_judged_again_before_they_hear_more(house: Colony) -> None:
    gate = house.gate
    seen = house.post(house.ann, "one", "garden").seq
    wait = gate.waiters.wait

    def denied_meanwhile(topic: Topic, since: int, deadline: float) -> bool:
        put(house.admin, "deny", "bob", "read", "channel:garden")
        house.post(house.ann, "two", "garden")
        gate.waiters.wait = wait  # type: ignore[method-assign]
        return wait(topic, since, deadline)

    gate.waiters.wait = denied_meanwhile  # type: ignore[method-assign]
    with pytest.raises(errors.Forbidden):
        house.bob.call(operations.READ, schema.ReadMessages(channel="garden", since=seen, wait=5))
