"""Who asked in a turn hears what became of it, in the channel of that turn, and can go on."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from server.models.acl import takes_part
from server.models.approval import LIFETIME
from server.models.inbox import inbox
from tests.server.rooms import wrong
from tests.server.samples import room
from tests.server.support import Colony
from tests.server.test_approvals import approve, held, put, refuse

GARDEN, ATTIC = "garden", "attic"


@pytest.fixture
def house(colony: Colony) -> Colony:
    """What scout posts in #general is held; ann speaks with it in the garden."""
    put(colony, "scout", "post", "channel:general")
    colony.open_channel(GARDEN)
    return colony


def ask(colony: Colony, channel: str = GARDEN) -> int:
    """Scout is mentioned, wants to post in #general, and ends its turn. Gives the number under which the post is held."""
    colony.post(colony.ann, "@scout tell everybody", channel)
    turn = colony.turn(colony.scout)
    number = held(colony, colony.in_turn(turn), "hear, hear", is_told=True)
    colony.finish(turn, "I have asked")
    return number


def heard(colony: Colony, channel: str = GARDEN) -> list[str]:
    """What the colony itself has said there."""
    said = colony.ann.call(operations.READ, schema.ReadMessages(channel=channel, since=0, limit=500)).messages
    return [message.body for message in said if message.author == "colony"]


def test_an_approval_wakes_its_agent_where_it_asked_and_the_call_passes(house: Colony) -> None:
    number = ask(house)
    found = approve(house.ann, number)
    assert found.asker_is_told
    until = f"{found.expires_at:%Y-%m-%d %H:%M} UTC"
    told = f"@scout your call to post, held as #{number}, is approved: make the same call again before {until}. It passes once."
    assert heard(house) == [told]
    turn = house.turn(house.scout)
    assert ([item.message.body for item in turn.items], turn.channel) == ([told], GARDEN)
    house.post(house.in_turn(turn), "hear, hear")
    house.finish(turn, "it is said")
    assert [message.body for message in house.read()] == ["hear, hear"]
    assert wrong(house) == []


def test_a_refusal_is_told_too(house: Colony) -> None:
    number = ask(house)
    assert refuse(house.ann, number).asker_is_told
    [told] = heard(house)
    assert told.startswith(f"@scout your call to post, held as #{number}, is refused, and stays so until 20")
    with pytest.raises(errors.Forbidden, match="this was refused"):
        house.post(house.in_turn(house.turn(house.scout)), "hear, hear")


def test_it_is_told_once_however_often_it_is_approved(house: Colony) -> None:
    number = ask(house)
    assert [approve(who, number).asker_is_told for who in (house.ann, house.bob, house.ann)] == [True] * 3
    assert len(heard(house)) == 1
    assert [item.outcome for item in house.items("scout")] == ["answered", None]


def test_an_agent_that_is_paused_hears_it_later(house: Colony) -> None:
    number = ask(house)
    house.set_status("scout", "paused", "for lunch")
    approve(house.ann, number)
    assert house.claim(house.scout).turn is None
    assert heard(house)[1] == "scout is paused: for lunch. It answers once somebody calls `colony resume scout`."
    house.set_status("scout", "healthy")
    assert house.turn(house.scout).items[0].message.body == heard(house)[0]


def test_with_the_decision_of_a_person_the_loop_guard_sees_a_new_chain(house: Colony) -> None:
    approve(house.ann, ask(house))
    turn = house.turn(house.scout)
    assert turn.items[0].message.hops == 0
    assert house.post(house.in_turn(turn), "@rook look", GARDEN).hops == 1


def test_in_a_pulse_and_outside_of_turns_nobody_is_told(house: Colony) -> None:
    pulse = house.turn(house.scout, kind="pulse")
    inside, outside = held(house, house.in_turn(pulse), "one"), held(house, house.scout, "two")
    for number in (inside, outside):
        assert not approve(house.ann, number).asker_is_told
    assert house.count(inbox, inbox.c.agent_id == house.id_of("scout")) == 0
    with house.gate.database.read() as connection:
        assert not takes_part(connection, house.id_of("scout"), "ops"), "who is addressed in #ops may read it"


def test_it_is_told_where_it_was_asked_last(house: Colony) -> None:
    pulse = house.turn(house.scout, kind="pulse")
    number = held(house, house.in_turn(pulse), "hear, hear")
    house.finish(pulse)
    house.open_channel("kitchen")
    assert ask(house) == ask(house, "kitchen") == number
    pulse = house.turn(house.scout, kind="pulse")
    assert held(house, house.in_turn(pulse), "hear, hear") == number
    approve(house.ann, number)
    assert (heard(house), len(heard(house, "kitchen"))) == ([], 1)


def test_neither_channel_learns_what_is_the_other_s(house: Colony) -> None:
    """Not #garden what is asked about the attic, nor who approves it; nor #ops and bob that there is an attic."""
    room(house, "scout", name=ATTIC)
    put(house, "scout", "post", f"channel:{ATTIC}")
    house.post(house.ann, "@scout tell them", GARDEN)
    turn = house.turn(house.scout)
    number = held(house, house.in_turn(turn), "the plan", channel=ATTIC, is_told=True)
    house.finish(turn)
    approve(house.ann, number)
    [told] = heard(house)
    for secret in (ATTIC, "the plan", "ann"):
        assert secret not in told
    house.finish(house.turn(house.scout))
    asked = ask(house, ATTIC)
    answer = approve(house.bob, asked)
    assert answer.asker_is_told
    assert ATTIC not in answer.model_dump_json() + " ".join(message.body for message in house.read("ops"))
    assert f"held as #{asked}, is approved" in heard(house, ATTIC)[-1]


def test_who_is_no_member_of_the_channel_any_more_is_not_told(house: Colony) -> None:
    room(house, "scout", name=ATTIC)
    number = ask(house, ATTIC)
    house.ann.call(operations.REMOVE_MEMBER, schema.RemoveMember(channel=ATTIC, username="scout"))
    said = len(heard(house, ATTIC))
    assert not approve(house.ann, number).asker_is_told
    assert len(heard(house, ATTIC)) == said


def test_a_question_that_has_expired_is_not_told(house: Colony) -> None:
    number = ask(house)
    house.clock.advance(LIFETIME.total_seconds())
    with pytest.raises(errors.Conflict):
        approve(house.ann, number)
    assert heard(house) == []


def test_an_agent_that_may_not_answer_there_any_more_is_not_left_in_the_dark(house: Colony) -> None:
    number = ask(house)
    put(house, "scout", "post", f"channel:{GARDEN}", "deny")
    approve(house.ann, number)
    assert house.claim(house.scout).turn is None
    assert heard(house)[1].startswith("scout could not answer #3: it may not answer here")
