"""Answers have an end, however long what they tell of is: each caller's are held in the server's memory until they are read."""

from __future__ import annotations

import pytest

from colony import operations, schema
from server.models.message import MAX_ANSWER_CHARACTERS
from tests.server.following import START
from tests.server.support import Colony

LONG, MANY = 60_000, 40
FIT = MAX_ANSWER_CHARACTERS // LONG


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Very much is said in #general, all of it to scout."""
    colony.watch(colony.scout, "general")
    for number in range(MANY):
        colony.post(colony.ann, f"{number} " + "x" * (LONG - 3))
    return colony


def test_a_channel_is_read_as_far_as_there_is_room_and_then_further(house: Colony) -> None:
    newest = house.read(since=None)
    assert [message.seq for message in newest] == list(range(MANY - FIT + 1, MANY + 1))
    seen: list[int] = []
    while found := house.read(since=seen[-1] if seen else 0):
        assert len(found) <= FIT
        seen += [message.seq for message in found]
    assert seen == list(range(1, MANY + 1))


def test_an_inbox_tells_of_the_oldest_first(house: Colony) -> None:
    items = house.inbox(house.scout, limit=500)
    assert [item.message.seq for item in items] == list(range(1, FIT + 1))


def test_nothing_of_what_happened_is_left_out(house: Colony) -> None:
    newest = house.ann.call(operations.EVENTS, schema.ListEvents(limit=500)).events
    assert [event.message.seq for event in newest if event.message] == list(range(MANY - FIT + 1, MANY + 1))
    seen: list[schema.Event] = []
    since = START
    while (answer := house.ann.call(operations.EVENTS, schema.ListEvents(since=since, limit=500))).position != since:
        seen += answer.events
        since = answer.position
    assert [event.message.seq for event in seen if event.message] == list(range(1, MANY + 1))
    again = house.ann.call(operations.EVENTS, schema.ListEvents(since=newest[0].id, limit=500)).events
    assert [event.id for event in again] == [event.id for event in newest[1:]]


def test_one_message_always_has_room(house: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.models.message.MAX_ANSWER_CHARACTERS", 10)
    assert [message.seq for message in house.read()] == [1]
    assert [message.seq for message in house.read(since=None)] == [MANY]
