"""Retries: what was given up is handled once more, and nothing is answered twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import update

from colony import errors, operations, schema
from colony.client import Client
from server.models.retry import retries
from server.models.user import users
from tests.server.cast import token_of
from tests.server.rooms import add
from tests.server.support import Colony, only_sqlite


def given_up(colony: Colony, body: str = "@scout hello") -> schema.Message:
    asked = colony.post(colony.ann, body)
    colony.fail(colony.turn(colony.scout), permanent=True)
    return asked


def retry(colony: Colony, message: schema.Message, by: Client | None = None, **more: str) -> schema.Retried:
    return (by or colony.ann).call(operations.RETRY, schema.RetryMessage(id=message.id, **more))


def test_what_was_given_up_is_answered_in_a_new_turn_with_fresh_attempts(colony: Colony) -> None:
    asked = given_up(colony)
    dead = colony.turns()[0]
    assert not colony.heartbeat("scout").due
    assert retry(colony, asked) == schema.Retried(message_id=asked.id, retried=["scout"], waiting=[])
    assert colony.heartbeat("scout").due
    turn = colony.turn(colony.scout)
    assert (turn.id != dead.id, turn.attempt, turn.failures, [item.attempts for item in turn.items]) == (True, 1, 0, [1])
    colony.finish(turn, "42")
    [item] = colony.items("scout")
    assert (item.outcome, item.turn_id) == ("answered", turn.id)
    found = colony.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id))
    [again] = found.fates[0].retries
    assert (again.by, again.outcome, again.turn_id) == ("ann", "dead", dead.id)
    assert [turn.id for turn in found.turns] == [dead.id, turn.id]
    [row] = colony.rows(retries)
    assert (row.message_id, row.turn_id) == (asked.id, dead.id)


def test_the_notice_names_the_exact_command(colony: Colony) -> None:
    first, second = colony.post(colony.ann, "@scout one"), colony.post(colony.bob, "@scout two")
    colony.fail(colony.turn(colony.scout), permanent=True)
    assert colony.read()[-1].body.endswith(f"To try again: `colony retry {first.id} {second.id}`.")


@pytest.mark.parametrize("code", ["prompt_too_long", "gone", "unreadable"])
def test_a_notice_proposes_nothing_that_would_end_the_same_way(colony: Colony, code: str) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), code)
    assert "colony retry" not in colony.read()[-1].body


def test_whom_the_loop_guard_did_not_wake_can_be_woken_by_hand(colony: Colony) -> None:
    for n in range(20):
        colony.post(colony.rook, str(n))
    said = colony.post(colony.rook, "@scout hm")
    assert colony.claim(colony.scout).turn is None
    assert retry(colony, said, colony.admin).retried == ["scout"]
    colony.finish(colony.turn(colony.scout), "fine")
    assert [item.outcome for item in colony.items("scout")] == ["answered"]


def test_repeating_a_retry_changes_nothing(colony: Colony) -> None:
    asked = given_up(colony)
    retry(colony, asked)
    turn = colony.turn(colony.scout)
    assert retry(colony, asked) == schema.Retried(message_id=asked.id, retried=[], waiting=["scout"])
    colony.finish(turn, "42")
    assert colony.claim(colony.scout).turn is None
    assert colony.count(retries) == 1


def test_many_retries_at_once_do_one(colony: Colony) -> None:
    asked = given_up(colony)
    start = Barrier(8)

    def at_once(_: int) -> schema.Retried:
        client = colony.client(token_of("ann"))
        start.wait()
        return retry(colony, asked, client)

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(at_once, range(8)))
    assert sorted(each.retried for each in said) == [[]] * 7 + [["scout"]]
    assert colony.count(retries) == 1
    colony.finish(colony.turn(colony.scout), "42")
    assert colony.claim(colony.scout).turn is None


def test_what_was_answered_is_not_answered_twice(colony: Colony) -> None:
    asked = colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.finish(turn, "42")
    with pytest.raises(errors.Conflict, match=rf"scout has answered it \(turn {turn.id}\)"):
        retry(colony, asked)
    assert colony.claim(colony.scout).turn is None


def test_only_the_agents_that_gave_up_try_again(colony: Colony) -> None:
    asked = colony.post(colony.ann, "@scout @rook")
    colony.fail(colony.turn(colony.scout), permanent=True)
    colony.finish(colony.turn(colony.rook), "42")
    assert retry(colony, asked).retried == ["scout"]
    assert colony.claim(colony.rook).turn is None


def test_one_of_several_agents_can_be_named(colony: Colony) -> None:
    asked = colony.post(colony.ann, "@scout @rook")
    for agent in (colony.scout, colony.rook):
        colony.fail(colony.turn(agent), permanent=True)
    assert retry(colony, asked, agent="rook").retried == ["rook"]
    assert colony.claim(colony.scout).turn is None


def test_only_its_author_the_agents_owner_and_administrators_retry(colony: Colony) -> None:
    asked = given_up(colony)
    for caller in (colony.bob, colony.rook, colony.scout):
        with pytest.raises(errors.Forbidden):
            retry(colony, asked, caller)
    bob = colony.id_of("bob")
    colony.gate.database.write(lambda connection: connection.execute(update(users).where(users.c.username == "scout").values(owner_id=bob)))
    assert retry(colony, asked, colony.bob).retried == ["scout"]


@only_sqlite
def test_what_can_not_be_retried_says_why(colony: Colony) -> None:
    plain = colony.post(colony.ann, "hello @bob")
    with pytest.raises(errors.Conflict, match="it was for no agent"):
        retry(colony, plain)
    with pytest.raises(errors.Conflict, match="it was not for rook"):
        retry(colony, given_up(colony), agent="rook")
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.RETRY, schema.RetryMessage(id=999))
    asked = colony.post(colony.ann, "@scout")
    colony.finish(colony.turn(colony.scout))
    with pytest.raises(errors.Conflict, match="had nothing to say"):
        retry(colony, asked)
    asked = given_up(colony)
    colony.set_status("scout", "draining")
    colony.set_status("scout", "dead")
    with pytest.raises(errors.Conflict, match="scout has left the colony"):
        retry(colony, asked)


@only_sqlite
def test_who_is_given_a_name_again_has_nothing_retried_of_who_had_it_before(colony: Colony) -> None:
    asked = given_up(colony)
    colony.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="ann"))
    colony.clock.advance(1)
    with pytest.raises(errors.Forbidden, match=f"message {asked.id} is not yours"):
        retry(colony, asked, add(colony, "ann", "ape"))
    assert retry(colony, asked, colony.admin).retried == ["scout"]
