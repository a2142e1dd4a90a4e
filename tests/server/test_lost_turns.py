"""Leases, and turns whose process is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from colony import errors, failures, operations, schema
from tests.server.support import Clock, Colony
from tests.server.turns import limited, notices, outcomes, renew


def test_a_lease_that_ran_out_is_handed_out_again_as_the_next_attempt(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout, lease_seconds=60)
    colony.clock.advance(59.9)
    assert colony.claim(colony.scout).turn is None
    colony.clock.advance(0.1)
    again = colony.turn(colony.scout)
    assert (again.id, again.attempt, again.failures, again.error_code) == (turn.id, 2, 1, "lost")
    assert [item.attempts for item in again.items] == [2]
    with pytest.raises(errors.StaleTurn):
        colony.finish(turn, "too late")
    colony.finish(again, "in time")
    assert [reply.body for reply in colony.replies(turn.id)] == ["in time"]


def test_a_renewed_lease_lasts(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    for _ in range(5):
        colony.clock.advance(50)
        lease = renew(colony, turn)
        assert (lease.lease_until, lease.status) == (colony.clock.now + timedelta(seconds=60), "healthy")
        assert colony.claim(colony.scout).turn is None
    colony.clock.advance(60)
    assert colony.turn(colony.scout).attempt == 2


def test_an_expired_turn_that_nobody_took_over_may_still_finish(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.clock.advance(10_000)
    assert colony.finish(turn, "late, but first").state == "finished"
    assert len(colony.replies(turn.id)) == 1


def test_who_knows_that_the_process_is_gone_takes_over_at_once(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    again = colony.turn(colony.scout, take_over=True)
    assert (again.id, again.attempt) == (turn.id, 2)


def test_a_turn_lost_five_times_is_dead_with_one_notice(colony: Colony) -> None:
    asked = colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    for attempt, rest in ((2, 0), (3, 60), (4, 120), (5, 240)):
        claim = colony.claim(colony.scout, take_over=True)
        assert claim.retry_in_seconds == (rest or None)
        colony.clock.advance(rest)
        again = claim.turn or colony.turn(colony.scout)
        assert (again.attempt, again.failures, again.error_code) == (attempt, attempt - 1, "lost")
    claim = colony.claim(colony.scout, take_over=True)
    assert (claim.turn, claim.retry_in_seconds) == (None, None)
    assert outcomes(colony) == ["dead"]
    [notice] = notices(colony)
    assert failures.LOST.says in notice.body
    assert f"#{asked.seq}" in notice.body
    assert "@ann" in notice.body
    assert [item.trigger for item in colony.items("ann")] == ["mention"]
    assert colony.scout.call(operations.TURN, schema.GetTurn(id=turn.id)).state == "failed"


def test_a_turn_that_was_lost_after_it_failed_rests(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "crashed", retry_in_seconds=0)
    colony.turn(colony.scout)
    assert colony.claim(colony.scout, take_over=True).retry_in_seconds == 60
    assert not colony.heartbeat("scout").due
    colony.clock.advance(60)
    assert colony.heartbeat("scout").due
    assert colony.turn(colony.scout).attempt == 3


def test_a_turn_that_was_lost_once_does_not_keep_others_waiting(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.turn(colony.scout)
    colony.turn(colony.scout, take_over=True)
    colony.post(colony.ann, "@scout", channel=colony.open_channel("garden"))
    assert colony.turn(colony.scout, take_over=True).channel == "garden"


def test_a_lost_turn_frees_its_slot(database_url: str, clock: Clock) -> None:
    colony = limited(database_url, clock, 1)
    colony.post(colony.ann, "@scout @rook")
    colony.turn(colony.scout)
    clock.advance(60)
    assert colony.turn(colony.rook)
    claim = colony.claim(colony.scout)
    assert claim.turn is None
    assert claim.retry_in_seconds
    clock.advance(60)
    assert colony.turn(colony.scout).attempt == 2
    colony.close()
