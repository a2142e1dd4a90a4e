"""The fence: only the live attempt of a turn has a voice."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from tests.server.cast import token_of
from tests.server.support import Colony
from tests.server.turns import outcomes, renew


@pytest.mark.parametrize("operation", ["post", "ack", "renew", "finish", "fail", "read"])
def test_an_attempt_that_was_taken_over_is_refused_whatever_it_asks(colony: Colony, operation: str) -> None:
    asked = colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    again = colony.turn(colony.scout, take_over=True)
    requests: dict[str, schema.Request] = {
        "post": schema.PostMessage(channel="general", body="stale"),
        "ack": schema.AckInbox(ids=[turn.items[0].id]),
        "renew": schema.RenewTurn(id=turn.id),
        "finish": schema.FinishTurn(id=turn.id, reply="stale"),
        "fail": schema.FailTurn(id=turn.id, code="crashed", permanent=True),
        "read": schema.ReadMessages(channel="general"),
    }
    with pytest.raises(errors.StaleTurn):
        colony.in_turn(turn).call(operations.OPERATIONS[operation], requests[operation])
    assert [message.id for message in colony.read()] == [asked.id]
    assert outcomes(colony) == [None]
    colony.finish(again, "in time")
    assert outcomes(colony) == ["answered"]


def test_a_turn_is_ended_only_with_its_own_attempt(colony: Colony) -> None:
    colony.post(colony.ann, "@scout @rook")
    mine, other = colony.turn(colony.scout), colony.turn(colony.rook)
    request = schema.FinishTurn(id=mine.id, reply="stolen")
    for client in (colony.scout, colony.in_turn(other), colony.client(token_of("rook"), f"{mine.id}.1"), colony.in_turn(mine, attempt=2)):
        with pytest.raises(errors.StaleTurn):
            client.call(operations.FINISH, request)
        with pytest.raises(errors.StaleTurn):
            client.call(operations.FAIL, schema.FailTurn(id=mine.id, code="crashed", permanent=True))
    assert outcomes(colony) == [None]


def test_a_finished_turn_accepts_nothing_more(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.finish(turn, "done")
    with pytest.raises(errors.StaleTurn):
        colony.fail(turn)
    with pytest.raises(errors.StaleTurn):
        renew(colony, turn)
    with pytest.raises(errors.StaleTurn):
        colony.post(colony.in_turn(turn), "one more thing")
    assert outcomes(colony) == ["answered"]


def test_a_resting_turn_cannot_be_finished_or_posted_from(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.fail(turn)
    with pytest.raises(errors.StaleTurn):
        colony.finish(turn, "changed my mind")
    with pytest.raises(errors.StaleTurn):
        colony.post(colony.in_turn(turn), "hi")
    assert colony.replies(turn.id) == []
