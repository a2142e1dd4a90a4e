"""Rows that the colony never wrote: whoever reads around them goes on, and so does every agent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from colony import errors, operations, schema
from server.models import claim as claim_model
from server.models import inbox, turn
from tests.server.support import Colony, only_sqlite


def spoil(colony: Colony, statement: str, **values: Any) -> None:
    colony.gate.database.write(lambda connection: connection.execute(text(statement), values))


def ask(colony: Colony, body: str = "@scout hello") -> schema.Message:
    return colony.post(colony.ann, body)


ON_BOTH = [
    "UPDATE messages SET created_at = 9223372036854775807",
    "UPDATE messages SET created_at = -9223372036854775808",
    "UPDATE messages SET hops = 2147483647",
    "UPDATE messages SET type = '?!'",
    "UPDATE messages SET body = ''",
    "UPDATE inbox SET trigger = 'shout'",
    "UPDATE inbox SET created_at = 9223372036854775807",
    "UPDATE inbox SET attempts = 2147483646",
    "UPDATE users SET kind = 'robot' WHERE username = 'ann'",
    "UPDATE users SET last_seen_at = 9223372036854775807, held_until = -5",
]
ON_SQLITE = [
    "UPDATE messages SET body = CAST(x'fffe41' AS TEXT)",
    "UPDATE messages SET body = x'ff00fe'",
    "UPDATE messages SET body = 'nul' || char(0) || 'nul @rook'",
    "UPDATE messages SET type = CAST(x'ff' AS TEXT)",
    "UPDATE messages SET created_at = 'yesterday'",
    "UPDATE messages SET hops = 'many'",
    "UPDATE inbox SET created_at = 'yesterday'",
    "UPDATE users SET username = CAST(x'ff41' AS TEXT) WHERE username = 'ann'",
    "UPDATE channels SET topic = CAST(x'ff' AS TEXT)",
]


def everything_works_around_it(colony: Colony) -> None:
    """The spoiled message is read, claimed and answered, as is the next one; rook has never noticed."""
    assert len(colony.bob.call(operations.READ, schema.ReadMessages(channel="general")).messages) == 2
    assert len(colony.inbox(colony.scout)) == 1
    colony.finish(colony.turn(colony.rook), "fine")
    for _ in range(2):
        found = colony.claim(colony.scout).turn
        assert found
        colony.finish(found, "well")
        colony.post(colony.bob, "@scout again")
    assert [item.outcome for item in colony.items("scout")] == ["answered", "answered", None]


@pytest.mark.parametrize("statement", ON_BOTH)
def test_an_odd_row_hides_nothing_and_stops_nobody(colony: Colony, statement: str) -> None:
    ask(colony)
    spoil(colony, statement)
    colony.post(colony.bob, "@rook hello")
    everything_works_around_it(colony)


@only_sqlite
@pytest.mark.parametrize("statement", ON_SQLITE)
def test_what_sqlite_alone_can_hold_hides_nothing_and_stops_nobody(colony: Colony, statement: str) -> None:
    ask(colony)
    spoil(colony, statement)
    colony.post(colony.bob, "@rook hello")
    everything_works_around_it(colony)


@pytest.mark.parametrize("statement", ON_BOTH)
def test_an_odd_row_is_explained(colony: Colony, statement: str) -> None:
    asked = ask(colony)
    spoil(colony, statement)
    assert len(colony.bob.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id)).fates) == 1


# --- a claim that breaks, whatever the reason


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can read an inbox item whose message says so."""
    readable = inbox.to_schema

    def to_schema(row: Any) -> schema.InboxItem:
        found = readable(row)
        if "poison" in found.message.body:
            raise RecursionError("a bug of tomorrow")
        return found

    monkeypatch.setattr(inbox, "to_schema", to_schema)


def notices(colony: Colony) -> list[str]:
    with colony.gate.database.read() as connection:
        found = connection.execute(text("SELECT body FROM messages WHERE type = 'notice' ORDER BY id"))
        return [str(body) for body in found.scalars()]


def claim_until(colony: Colony, times: int) -> list[schema.Turn]:
    """The turns that scout gets, which it finishes, while time passes."""
    found = []
    for _ in range(times):
        if claimed := colony.claim(colony.scout).turn:
            colony.in_turn(claimed).call(operations.FINISH, schema.FinishTurn(id=claimed.id))
            found.append(claimed)
        colony.clock.advance(31)
    return found


@pytest.mark.usefixtures("poison")
def test_an_agent_gets_past_a_message_that_breaks_its_claim(colony: Colony) -> None:
    colony.open_channel("garden")
    first = ask(colony, "@scout one")
    bad = ask(colony, "@scout poison")
    last = ask(colony, "@scout three")
    elsewhere = colony.post(colony.ann, "@scout four", channel="garden")
    claim = colony.claim(colony.scout)
    assert (claim.turn, claim.reason) == (None, "a message could not be read")
    turns = claim_until(colony, 40)
    assert [[item.message.id for item in turn.items] for turn in turns] == [[first.id, last.id], [elsewhere.id]]
    assert [item.outcome for item in colony.items("scout")] == ["ignored", "dead", "ignored", "ignored"]
    assert notices(colony) == [f"@ann scout could not answer #{bad.seq}: the message can't be read. What helps: post it again."]
    assert colony.items("scout")[1].attempts == 5


@pytest.mark.usefixtures("poison")
def test_a_turn_that_already_holds_such_a_message_gets_past_it(colony: Colony) -> None:
    for body in ("@scout one", "@scout two"):
        ask(colony, body)
    begun = colony.turn(colony.scout)
    spoil(colony, "UPDATE messages SET body = 'poison' WHERE seq = 1")
    found = []
    for _ in range(12):
        if claimed := colony.claim(colony.scout, take_over=True).turn:
            found.append(claimed)
            break
        colony.clock.advance(61)
    assert [(claimed.id, [item.message.seq for item in claimed.items]) for claimed in found] == [(begun.id, [2])]
    assert [item.outcome for item in colony.items("scout")] == ["dead", None]
    assert len(notices(colony)) == 1


def test_a_claim_that_breaks_for_one_agent_leaves_the_others_alone(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = claim_model.claim

    def breaks_for_scout(connection: Any, agent: Any, *more: Any) -> Any:
        if agent.username == "scout":
            raise ZeroDivisionError
        return whole(connection, agent, *more)

    monkeypatch.setattr(claim_model, "claim", breaks_for_scout)
    for n in range(6):
        ask(colony, f"@scout @rook {n}")

    def scout() -> list[schema.Claim]:
        return [colony.claim(colony.scout) for _ in range(40)]

    def rook() -> int:
        done = 0
        while claimed := colony.claim(colony.rook).turn:
            colony.finish(claimed, "ok")
            done += len(claimed.items)
        return done

    with ThreadPoolExecutor(2) as pool:
        broken, worked = pool.submit(scout), pool.submit(rook)
        assert all(claim.turn is None for claim in broken.result(60))
        assert worked.result(60) == 6
    for _ in range(40):
        colony.clock.advance(3601)
        colony.claim(colony.scout)
    assert [item.outcome for item in colony.items("scout")] == ["dead"] * 6
    assert colony.claim(colony.scout).reason == "a message could not be read", "there is nothing left that it could give up"
    assert len(notices(colony)) == 6


def test_a_database_that_is_away_is_nobodys_fault(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(*_: Any, **__: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("gone"))

    ask(colony)
    monkeypatch.setattr(turn, "running", is_away)
    with pytest.raises(errors.Unavailable):
        colony.claim(colony.scout)
    monkeypatch.undo()
    assert [item.attempts for item in colony.items("scout")] == [0]
    assert colony.turn(colony.scout)


ODD_TURNS = [
    "UPDATE turns SET kind = 'nap'",
    "UPDATE turns SET state = 'lost'",
    "UPDATE turns SET started_at = 9223372036854775807, finished_at = -9223372036854775808",
    "UPDATE attempts SET tools = '{'",
    "UPDATE attempts SET tools = '[7]'",
    "UPDATE attempts SET ended_at = -9223372036854775808",
]


@pytest.mark.parametrize("statement", ODD_TURNS)
def test_an_odd_turn_hides_no_other_and_stops_nobody(colony: Colony, statement: str) -> None:
    asked = ask(colony)
    odd = colony.finish(colony.turn(colony.scout), "one")
    spoil(colony, statement)
    ask(colony)
    colony.finish(colony.turn(colony.scout), "two")
    shown = colony.ann.call(operations.TURNS, schema.ListTurns()).turns
    assert [turn.id for turn in shown] == [odd.id + 1, odd.id]
    assert colony.ann.call(operations.TURN, schema.GetTurn(id=odd.id)).posts[0].body == "one"
    assert colony.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id)).turns[0].id == odd.id
    assert shown[0].state == "finished"


@only_sqlite
def test_nobody_works_on_a_turn_that_cannot_be_read(colony: Colony) -> None:
    """Else it would be begun without its fence and its budget."""
    ask(colony)
    colony.fail(colony.turn(colony.scout))
    spoil(colony, "UPDATE turns SET tokens_in = 'x'")
    colony.clock.advance(3600)
    claim = colony.claim(colony.scout)
    assert (claim.turn, claim.reason) == (None, "a message could not be read")
