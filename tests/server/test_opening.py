"""Channels are opened, and not without end: nobody takes one away again, and all are listed."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.models import channel
from server.models.channel import channels
from tests.server.support import Colony


def open_channel(caller: Client, name: str, *, private: bool = False) -> schema.Channel:
    return caller.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name, private=private))


def test_there_is_an_end_of_what_one_opens_within_a_day(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_OPENED", 3)
    for number in range(3):
        open_channel(colony.ann, f"a{number}", private=number == 0)
        open_channel(colony.scout, f"s{number}")
    before = colony.count(channels)
    for caller, name in ((colony.ann, "b"), (colony.scout, "c"), (colony.ann, "a1")):
        with pytest.raises(errors.LimitReached, match="you have opened 3 channels within a day"):
            open_channel(caller, name)
    assert colony.count(channels) == before
    open_channel(colony.bob, "b")
    for number in range(4):
        open_channel(colony.admin, f"x{number}")
    colony.clock.advance(24 * 3600)
    open_channel(colony.ann, "c")
