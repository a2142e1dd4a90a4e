"""What must not be said: secrets are covered, and who says a honeytoken is stopped."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from sqlalchemy import select, update

from colony import errors, operations, schema
from colony.client import Client
from colony.operations import OPERATIONS
from colony.schema import FREE_TEXT
from server.models.audit import audit
from server.models.user import users
from tests.server.cast import token_of
from tests.server.reaching import bear, die, settle
from tests.server.rooms import add
from tests.server.samples import contact
from tests.server.support import Colony
from tests.server.test_secrets import VALUE, gate, put

__all__ = ["gate"]


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and both agents have a Linux user."""
    return settle(colony)


def honeytoken(colony: Colony, agent: str = "scout") -> str:
    [row] = colony.rows(users, users.c.username == agent)
    return str(row.honeytoken)


def told(colony: Colony) -> list[str]:
    return [message.body for message in colony.read("ops") if "honeytoken" in message.body]


def status(colony: Colony, agent: str = "scout") -> tuple[str, str]:
    found = {each.username: each for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents}[agent]
    return found.status, found.status_note


# Secrets


@pytest.mark.parametrize(
    "said",
    [
        f"it is {VALUE}, twice {VALUE}",
        base64.b64encode(f"user:{VALUE}".encode()).decode(),
        VALUE.encode().hex(),
        quote(VALUE + "/", safe=""),
    ],
)
def test_a_post_shows_no_secret(house: Colony, said: str) -> None:
    put(house, value=VALUE + "/" if "%" in said else VALUE)
    message = house.post(house.scout, f"here: {said} !")
    assert "**" in message.body
    assert message.body.startswith("here: ")
    assert message.body.endswith(" !")
    assert len(message.body) == len(f"here: {said} !")
    assert VALUE not in message.body + house.read()[-1].body


def test_neither_does_a_reply_nor_what_a_turn_failed_of(house: Colony) -> None:
    put(house)
    house.post(house.ann, "@scout @rook")
    house.finish(house.turn(house.scout), f"the token is {VALUE}")
    house.fail(house.turn(house.rook), detail=f"401 for {VALUE}", permanent=True)
    said = " ".join(message.body for message in house.read())
    assert f"the token is {'*' * len(VALUE)}" in said
    assert VALUE not in said
    assert VALUE not in repr(house.turns())


@pytest.mark.parametrize("end", ["finish", "fail"])
def test_neither_does_what_a_turn_says_that_it_used(house: Colony, end: str) -> None:
    put(house)
    asked = house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    usage = schema.Usage(tokens_in=7, tools={f"search-{VALUE}": 2})
    if end == "finish":
        house.finish(turn, "done", usage=usage, session_id=VALUE)
    else:
        house.fail(turn, usage=usage)
    told = house.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id))
    assert told.turns[0].attempts[0].tools == {f"search-{'*' * len(VALUE)}": 2}
    assert told.turns[0].tokens_in == 7
    assert VALUE not in told.model_dump_json()


def test_who_pastes_one_shows_it_to_nobody(house: Colony) -> None:
    put(house)
    assert VALUE not in house.post(house.ann, VALUE).body


def test_setting_it_again_keeps_it(house: Colony, gate: Client) -> None:
    put(house)
    put(house, agent="scout")
    given = gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).agents
    assert {each.value for theirs in given.values() for each in theirs} == {VALUE}


def test_what_was_said_before_it_was_a_secret_no_tool_tells(house: Colony) -> None:
    house.post(house.ann, f"my token: {VALUE}")
    put(house)
    assert VALUE in house.read()[-1].body
    read = house.scout.call(operations.READ, schema.ReadMessages(channel="general"))
    assert f"my token: {'*' * len(VALUE)}" in [message.body for message in read.messages]


def test_what_is_secret_no_more_is_said_again(house: Colony) -> None:
    put(house)
    assert VALUE not in house.post(house.scout, VALUE).body
    put(house, value="another-value-now")
    assert "another" not in house.post(house.scout, "another-value-now").body
    house.admin.call(operations.DROP_SECRET, schema.DropSecret(name="TOKEN"))
    assert house.post(house.scout, "another-value-now").body == "another-value-now"


def test_a_ring_that_is_lost_keeps_nobody_from_speaking(house: Colony) -> None:
    put(house)
    house.gate.config.secret_keys.unlink()
    house.gate._censor.forget()
    assert house.post(house.scout, "hello").body == "hello"


@pytest.mark.parametrize("word", ["tokens_in", "began_at", "broadcast", "standup-daily", "librarian"])
def test_a_secret_that_is_a_word_of_the_colony_stops_nobody(house: Colony, gate: Client, word: str) -> None:
    bear(house, "librarian")
    house.open_channel("standup-daily")
    house.admin.call(operations.SET_SECRET, schema.SetSecret(name="WORD", value=word, hosts=["api.example"]))
    house.post(house.ann, "@agents", "standup-daily")
    turn = house.turn(house.rook)
    assert house.rook.call(operations.INBOX, schema.ReadInbox()).items[0].trigger == "broadcast"
    house.finish(turn, "done", usage=schema.Usage(tokens_in=1, tools={"post": 1}))
    seen = contact(house, "librarian", "pypi.org")
    assert house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[seen])).recorded == 1
    assert "librarian" in [each.username for each in house.rook.call(operations.USERS, schema.ListUsers()).users]


@pytest.mark.parametrize("word", ["@rook,please", "approved", "general#12"])
def test_what_an_owner_calls_secret_changes_nothing_that_others_say(house: Colony, word: str) -> None:
    put(house, "WORD", word, caller=house.bob, agent="scout")
    said = f"@rook {word} have a look"
    assert [house.post(who, said).body for who in (house.ann, house.rook)] == [said, said]
    house.post(house.ann, "@rook,please have a look")
    assert [item.message.body for item in house.inbox(house.rook)] == [said, "@rook,please have a look"]
    house.finish(house.turn(house.rook), said)
    assert house.read()[-1].body == said
    read = house.rook.call(operations.READ, schema.ReadMessages(channel="general")).messages
    assert said in [message.body for message in read]


def test_the_secret_of_one_agent_is_covered_in_what_it_says_and_hears_and_in_what_its_setter_says(house: Colony) -> None:
    put(house, caller=house.bob, agent="scout")
    covered = "*" * len(VALUE)
    assert house.post(house.bob, f"it is {VALUE}").body == f"it is {covered}"
    house.post(house.ann, f"@scout it is {VALUE}")
    turn = house.turn(house.scout)
    assert turn.items[0].message.body == f"@scout it is {covered}"
    house.post(house.in_turn(turn), VALUE)
    house.fail(turn, detail=f"401 for {VALUE}", permanent=True)
    assert VALUE not in "".join(message.body for message in house.read() if message.author != "ann")
    assert VALUE not in repr(house.turns())
    told = house.scout.call(operations.READ, schema.ReadMessages(channel="general")).model_dump_json()
    assert VALUE not in told


def test_who_is_given_the_setter_s_name_again_says_what_they_like(house: Colony) -> None:
    """An administrator's, that is: what an owner has set for their agent goes with them."""
    put(house, "WORD", "@rook,please", agent="scout")
    house.execute("UPDATE secrets SET set_by = (SELECT id FROM users WHERE username = 'ann')")  # as if she had been one then
    put(house, "OTHER", "something-else", agent="scout")  # so that the server looks again
    assert "rook" not in house.post(house.ann, "@rook,please").body
    house.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="ann"))
    house.clock.advance(1)
    assert house.post(add(house, "ann", "ape"), "@rook,please").body == "@rook,please"
    assert "rook" not in house.post(house.scout, "@rook,please").body


def test_all_that_is_written_freely_is_covered() -> None:
    written = {name for operation in OPERATIONS.values() for name in operation.request.unaudited - operation.request.sealed}
    assert written <= FREE_TEXT


@pytest.mark.parametrize("depth", [100, 600, 900, 3000])
def test_what_is_no_text_is_refused_however_deep_it_is(house: Colony, depth: int) -> None:
    put(house)
    body = json.dumps({"channel": "general"})[:-1] + ', "body": ' + "[" * depth + "]" * depth + "}"
    for name in ("ann", "scout"):
        answer = house.http(token_of(name)).post(
            "/api/channels/general/messages", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400


def test_of_two_secrets_that_begin_alike_nothing_is_left_over(house: Colony) -> None:
    put(house, "SHORT", VALUE)
    put(house, "LONG", f"{VALUE}-and-the-rest-of-it")
    assert house.post(house.scout, f"{VALUE}-and-the-rest-of-it").body == "*" * len(f"{VALUE}-and-the-rest-of-it")
    assert house.post(house.scout, VALUE.encode().hex().upper()).body == "*" * (2 * len(VALUE))


def test_a_claim_shows_none_either(house: Colony) -> None:
    house.post(house.ann, f"@scout it is {VALUE}")
    put(house)
    assert house.turn(house.scout).items[0].message.body == f"@scout it is {'*' * len(VALUE)}"


def test_keys_that_are_put_back_count_at_once(house: Colony) -> None:
    put(house)
    keys = house.gate.config.secret_keys.read_bytes()
    house.gate.config.secret_keys.unlink()
    house.gate._censor.forget()
    assert house.post(house.scout, VALUE).body == VALUE
    house.gate.config.secret_keys.write_bytes(keys)
    assert VALUE not in house.post(house.scout, VALUE).body


def test_a_channel_that_is_asked_for_by_a_secret_is_not_written_down(house: Colony) -> None:
    put(house)
    with pytest.raises(errors.NotFound):
        house.post(house.scout, "hello", VALUE)
    assert VALUE not in repr(house.rows(audit))


def test_no_audit_row_holds_one(house: Colony) -> None:
    put(house)
    house.scout.call(operations.HEARTBEAT, schema.Heartbeat(agent="scout"))
    house.admin.call(operations.SET_STATUS, schema.SetStatus(agent="rook", status="paused", note=f"leaks {VALUE}"))
    assert VALUE not in repr(house.rows(audit))


# Honeytokens


def test_each_agent_has_its_own_and_nobody_else_one(house: Colony, gate: Client) -> None:
    assert honeytoken(house) != honeytoken(house, "rook")
    assert [row.honeytoken for row in house.rows(users, users.c.kind != "agent")] == [None] * house.count(users, users.c.kind != "agent")
    given = gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).honeytokens
    assert given == {name: honeytoken(house, name) for name in ("scout", "rook")}


def test_only_who_works_on_a_turn_is_told(house: Colony) -> None:
    house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    assert turn.honeytoken == honeytoken(house)
    for asked in (house.ann, house.admin, house.in_turn(turn)):
        assert asked.call(operations.TURN, schema.GetTurn(id=turn.id)).honeytoken is None


def test_who_is_born_again_has_another(house: Colony) -> None:
    before = honeytoken(house)
    die(house, "scout")
    bear(house, "scout")
    assert honeytoken(house) not in (before, "None")


@pytest.mark.parametrize("how", ["plain", "base64", "a field of its own"])
def test_who_posts_it_is_stopped(house: Colony, how: str) -> None:
    house.post(house.ann, "@scout give me what you find")
    turn = house.turn(house.scout)
    value = honeytoken(house)
    said = base64.b64encode(f"x{value}".encode()).decode() if how == "base64" else value
    fields = {"client_id": said} if how == "a field of its own" else {}
    with pytest.raises(errors.StaleTurn, match="the turn is over"):
        house.post(house.in_turn(turn), "fine" if fields else f"found: {said}", **fields)
    assert status(house) == ("paused", "it was about to give its honeytoken away: see #ops")
    [notice] = told(house)
    assert notice.startswith(f"@bob scout was about to give its honeytoken away in turn {turn.id}, with `post`, and is paused.")
    general = [message.body for message in house.read()]
    assert value not in repr(general)
    assert any("scout could not answer #1: it was about to give away a token" in body for body in general)
    assert ("post", "scout", "refused", "stale_turn") in house.audit()
    assert [item.outcome for item in house.items("scout")] == ["dead"]


def test_a_reply_that_holds_it_is_no_reply_and_comes_once(house: Colony) -> None:
    house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    for _ in range(2):
        with pytest.raises(errors.StaleTurn):
            house.finish(turn, f"the admin token is {honeytoken(house)}")
    assert house.replies(turn.id) == []
    assert len(told(house)) == 1
    house.set_status("scout", "healthy")
    with pytest.raises(errors.StaleTurn):
        house.finish(turn, honeytoken(house))
    assert status(house)[0] == "healthy", "an answer that comes once more pauses nobody anew"


def test_outside_of_a_turn_it_is_refused_as_well(house: Colony) -> None:
    with pytest.raises(errors.Forbidden, match="the honeytoken of scout stands in this post"):
        house.post(house.scout, honeytoken(house))
    assert status(house)[0] == "paused"


def test_others_may_speak_of_it(house: Colony) -> None:
    value = honeytoken(house)
    house.post(house.ann, value)
    house.post(house.rook, value)
    assert told(house) == []


def test_what_the_gate_saw_stops_it_once(house: Colony) -> None:
    house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    seen = contact(house, "scout", "evil.example", holds_honeytoken=True)
    for _ in range(2):
        house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[seen]))
    [notice] = told(house)
    assert f"in turn {turn.id}, through the gate" in notice
    assert "evil.example" not in notice
    assert status(house)[0] == "paused"
    with pytest.raises(errors.StaleTurn):
        house.finish(turn, "all is well")
    house.set_status("scout", "healthy")
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[seen]))
    assert status(house)[0] == "healthy"


def test_many_contacts_of_one_turn_are_one_alarm(house: Colony) -> None:
    house.post(house.ann, "@scout")
    house.turn(house.scout)
    seen = [contact(house, "scout", f"h{number}.example", holds_honeytoken=True) for number in range(30)]
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=seen))
    assert len(told(house)) == 1


def test_what_the_dead_gave_away_holds_up_nobodys_report(house: Colony) -> None:
    seen = [contact(house, name, holds_honeytoken=True) for name in ("rook", "nobody", "scout")]
    die(house, "rook")
    assert house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=seen)).recorded == 3
    assert status(house)[0] == "paused"


def test_outside_of_turns_each_time_pauses(house: Colony) -> None:
    for _ in range(2):
        with pytest.raises(errors.Forbidden):
            house.post(house.scout, honeytoken(house))
        assert status(house)[0] == "paused"
        house.set_status("scout", "healthy")
    assert len(told(house)) == 1


def test_who_is_paused_already_stays_so(house: Colony) -> None:
    house.set_status("scout", "paused", "for a while")
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[contact(house, "scout", holds_honeytoken=True)]))
    assert status(house) == ("paused", "for a while")
    assert len(told(house)) == 1


def test_an_agent_without_one_is_asked_nothing(house: Colony) -> None:
    house.gate.database.write(lambda connection: connection.execute(update(users).values(honeytoken=None)))
    house.gate._identities.forget()
    assert house.post(house.scout, "None").body == "None"
    with house.gate.database.read() as connection:
        assert connection.execute(select(users.c.honeytoken)).scalars().all() == [None] * house.count(users)


def test_events_and_explanations_hold_none(house: Colony) -> None:
    asked = house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    with pytest.raises(errors.StaleTurn):
        house.finish(turn, honeytoken(house))
    events = house.ann.call(operations.EVENTS, schema.ListEvents()).model_dump_json()
    explained = house.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id)).model_dump_json()
    assert honeytoken(house) not in events + explained + json.dumps([str(row) for row in house.rows(audit)])
