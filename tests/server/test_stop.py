"""Stopping a turn for good: who may, what the channel hears, and that nothing of it is accepted later."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import update

from colony import errors, operations, schema
from colony.client import Client
from server.models.user import users
from tests.server.support import Call, Colony

SOON = 15.0  # seconds, of the 25 that a lease waits at most


def stop(colony: Colony, turn: schema.Turn, by: Client | None = None) -> schema.Turn:
    return (by or colony.ann).call(operations.STOP, schema.StopTurn(id=turn.id))


def running(colony: Colony) -> schema.Turn:
    colony.post(colony.ann, "@scout hello")
    return colony.turn(colony.scout)


def test_a_stopped_turn_is_over_at_once_and_the_channel_hears_of_it_once(colony: Colony) -> None:
    turn = running(colony)
    for _ in range(2):
        stopped = stop(colony, turn)
        assert (stopped.state, stopped.error_code, stopped.error) == ("failed", "cancelled", "ann stopped it")
    [notice] = [message for message in colony.read() if message.type == "notice"]
    assert notice.body.startswith("@ann scout could not answer #1: ann stopped it.")
    assert notice.body.endswith(f"`colony retry {turn.items[0].message.id}`.")
    assert [item.outcome for item in colony.items("scout")] == ["dead"]
    late = colony.in_turn(turn)
    calls: tuple[Call, ...] = (
        (operations.FINISH, schema.FinishTurn(id=turn.id, reply="late")),
        (operations.RENEW, schema.RenewTurn(id=turn.id)),
        (operations.POST, schema.PostMessage(channel="general", body="late")),
    )
    for operation, request in calls:
        with pytest.raises(errors.StaleTurn):
            late.call(operation, request)
    assert colony.claim(colony.scout).turn is None
    assert len(colony.read()) == 2


def test_a_resting_turn_can_be_stopped_too(colony: Colony) -> None:
    turn = running(colony)
    colony.fail(turn)
    assert stop(colony, turn).state == "failed"
    colony.clock.advance(3600)
    assert colony.claim(colony.scout).turn is None
    assert [item.outcome for item in colony.items("scout")] == ["dead"]


def test_what_is_finished_can_not_be_stopped(colony: Colony) -> None:
    turn = running(colony)
    colony.finish(turn, "42")
    with pytest.raises(errors.Conflict, match="finished already"):
        stop(colony, turn)
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.STOP, schema.StopTurn(id=999))
    assert [item.outcome for item in colony.items("scout")] == ["answered"]


def test_a_stop_and_a_finish_at_once_leave_one_end(colony: Colony) -> None:
    for _ in range(5):
        turn = running(colony)
        with ThreadPoolExecutor(2) as pool:
            ends: list[Future[schema.Turn]] = [pool.submit(stop, colony, turn), pool.submit(colony.finish, turn, "42")]
            errors_seen = [end.exception(30) for end in ends]
        states = [error is None for error in errors_seen]
        assert sum(states) == 1, errors_seen
        assert len(colony.replies(turn.id)) == states[1]
        assert colony.items("scout")[-1].outcome == ("answered" if states[1] else "dead")


@pytest.mark.parametrize("kind", ["pulse", "dream"])
def test_a_stopped_pulse_or_dream_posts_nothing(colony: Colony, kind: schema.TurnKind) -> None:
    turn = colony.turn(colony.scout, kind=kind)
    with pytest.raises(errors.Forbidden):
        stop(colony, turn)
    assert stop(colony, turn, colony.admin).state == "failed"
    assert colony.read() == []


def test_whoever_it_answers_the_owner_and_administrators_stop_a_turn(colony: Colony) -> None:
    turn = running(colony)
    for caller in (colony.bob, colony.rook, colony.scout):
        with pytest.raises(errors.Forbidden):
            stop(colony, turn, caller)
    bob = colony.id_of("bob")
    colony.gate.database.write(lambda connection: connection.execute(update(users).where(users.c.username == "scout").values(owner_id=bob)))
    assert stop(colony, turn, colony.bob).error == "bob stopped it"
    colony.post(colony.rook, "@scout hi")
    turn = colony.turn(colony.scout)
    with pytest.raises(errors.Forbidden):
        stop(colony, turn, colony.rook)  # agents don't stop each other
    assert stop(colony, turn, colony.admin).state == "failed"


def test_after_a_stop_the_agent_goes_on_with_what_came_meanwhile(colony: Colony) -> None:
    turn = running(colony)
    colony.post(colony.bob, "@scout next")
    stop(colony, turn)
    assert [item.message.body for item in colony.turn(colony.scout).items] == ["@scout next"]


# --- the lease hears of it


def renewing(colony: Colony, turn: schema.Turn, pool: ThreadPoolExecutor) -> Future[schema.Lease]:
    request = schema.RenewTurn(id=turn.id, lease_seconds=60, wait=25)
    waiting = pool.submit(colony.in_turn(turn).call, operations.RENEW, request)
    while not colony.gate.waiters.asleep:
        assert not waiting.done(), waiting.result()
        time.sleep(0.005)
    return waiting


def test_a_waiting_renewal_returns_when_the_turn_is_stopped(colony: Colony) -> None:
    turn = running(colony)
    with ThreadPoolExecutor(1) as pool:
        waiting = renewing(colony, turn, pool)
        stop(colony, turn)
        with pytest.raises(errors.StaleTurn):
            waiting.result(SOON)


@pytest.mark.parametrize("status", ["paused", "draining"])
def test_a_waiting_renewal_returns_when_the_agent_shall_not_work(colony: Colony, status: schema.Status) -> None:
    turn = running(colony)
    with ThreadPoolExecutor(1) as pool:
        waiting = renewing(colony, turn, pool)
        colony.set_status("scout", status)
        assert waiting.result(SOON).status == status


def test_a_waiting_renewal_sleeps_through_mentions_and_ends_with_its_turn(colony: Colony) -> None:
    turn = running(colony)
    with ThreadPoolExecutor(1) as pool:
        waiting = renewing(colony, turn, pool)
        colony.post(colony.ann, "@scout more")
        time.sleep(0.2)
        assert not waiting.done()
        colony.finish(turn, "42")
        with pytest.raises(errors.StaleTurn):
            waiting.result(SOON)
