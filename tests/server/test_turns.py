"""Turns as people look at them, and all that happens to them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.models.inbox import inbox
from server.models.message import messages
from server.models.turn import turns
from tests.server.cast import token_of
from tests.server.support import Colony


def test_turns_are_listed_newest_first_and_by_agent(colony: Colony) -> None:
    ids = []
    for agent in (colony.scout, colony.rook, colony.scout):
        turn = colony.turn(agent, kind="pulse")
        colony.finish(turn)
        ids.append(turn.id)
    listed = colony.ann.call(operations.TURNS, schema.ListTurns()).turns
    assert [turn.id for turn in listed] == ids[::-1]
    assert [turn.id for turn in colony.ann.call(operations.TURNS, schema.ListTurns(agent="scout")).turns] == [ids[2], ids[0]]
    assert [turn.id for turn in colony.ann.call(operations.TURNS, schema.ListTurns(limit=1)).turns] == ids[2:]
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.TURNS, schema.ListTurns(agent="ann"))
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.TURN, schema.GetTurn(id=999))


def test_posts_claims_and_endings_of_many_agents_at_once_end_each_item_once(colony: Colony) -> None:
    """No deadlock, no crash, no double: the whole protocol under load."""
    rounds = 12

    def ask(author: Client) -> None:
        for n in range(rounds):
            colony.post(author, f"@scout @rook {n}")

    def answer(name: str) -> None:
        client = colony.client(token_of(name))
        while asking or colony.inbox(client):
            claim = colony.claim(client, take_over=True)
            if claim.turn and claim.turn.attempt % 2:
                colony.finish(claim.turn, "@apes ok")
            elif claim.turn:
                colony.fail(claim.turn, "stopped")

    asking = [True]
    with ThreadPoolExecutor(5) as pool:
        asks = [pool.submit(ask, author) for author in (colony.ann, colony.bob)]
        answers = [pool.submit(answer, name) for name in ("scout", "rook")]
        beats = pool.submit(lambda: [colony.heartbeat("scout") for _ in range(40)])
        for each in asks:
            each.result(60)
        asking.clear()
        for each in answers:
            each.result(60)
        beats.result(60)
    assert colony.count(inbox, inbox.c.acked_at.is_(None), inbox.c.agent_id == colony.id_of("scout")) == 0
    assert colony.count(turns, turns.c.state != "finished") == 0
    seqs = [message.seq for message in colony.read()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert colony.count(messages, messages.c.client_id.like("%:reply")) == colony.count(turns)
