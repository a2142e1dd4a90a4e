"""Pulses and dreams: turns that answer nobody."""

from __future__ import annotations

import pytest

from colony import operations, schema
from tests.server.support import Colony


@pytest.mark.parametrize("kind", ["pulse", "dream"])
def test_a_pulse_or_a_dream_needs_no_item_and_replies_nowhere(colony: Colony, kind: schema.TurnKind) -> None:
    turn = colony.turn(colony.scout, kind=kind)
    assert (turn.kind, turn.channel, turn.items, turn.context) == (kind, None, [], [])
    assert colony.finish(turn, "a thought").state == "finished"
    assert colony.read() == []


@pytest.mark.parametrize("kind", ["pulse", "dream"])
def test_a_failed_pulse_or_dream_is_not_tried_again_and_tells_nobody(colony: Colony, kind: schema.TurnKind) -> None:
    turn = colony.turn(colony.scout, kind=kind)
    assert colony.fail(turn, "crashed").state == "failed"
    assert colony.read() == []
    assert colony.turn(colony.scout, kind=kind).id != turn.id


def test_a_pulse_never_begins_beside_an_answer(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.clock.advance(120)
    for take_over in (False, True):
        assert colony.claim(colony.scout, kind="pulse", take_over=take_over).turn is None
    assert colony.finish(turn, "ok").state == "finished"


def test_a_pulse_waits_while_something_is_due_and_a_dream_does_not(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    claim = colony.claim(colony.scout, kind="pulse")
    assert (claim.turn, claim.reason) == (None, "who is asked something needs no pulse")
    assert colony.turns() == []
    colony.finish(colony.turn(colony.scout, kind="dream"))
    colony.fail(colony.turn(colony.scout), "crashed")  # it rests: nothing is due
    assert colony.turn(colony.scout, kind="pulse").kind == "pulse"


def test_a_lost_dream_makes_way_for_an_answer(colony: Colony) -> None:
    dream = colony.turn(colony.scout, kind="dream", lease_seconds=600)
    colony.post(colony.ann, "@scout")
    assert colony.claim(colony.scout).turn is None
    assert not colony.heartbeat("scout").due
    colony.clock.advance(600)
    assert colony.heartbeat("scout").due
    turn = colony.turn(colony.scout)
    assert turn.kind == "answer"
    assert colony.scout.call(operations.TURN, schema.GetTurn(id=dream.id)).state == "failed"


def test_a_pulse_is_held_as_answers_are(colony: Colony) -> None:
    colony.fail(colony.turn(colony.scout, kind="pulse"), "rate_limited", retry_in_seconds=60)
    assert colony.claim(colony.scout, kind="pulse").retry_in_seconds == 60
    colony.post(colony.ann, "@scout")
    assert colony.claim(colony.scout).turn is None
