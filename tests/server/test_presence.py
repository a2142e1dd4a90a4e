"""Agents that are always there are written down together; whoever comes, at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from server.models.user import users
from tests.server.support import Colony


def seen(colony: Colony, name: str = "scout") -> datetime:
    at: datetime = colony.rows(users, users.c.username == name)[0].last_seen_at
    return at


def waits(colony: Colony, name: str = "scout") -> None:
    """Its worker's next heartbeat, which has come and gone."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(colony.heartbeat, name, wait=0.1, status="healthy").result()


def test_who_is_always_there_is_written_down_with_the_others(colony: Colony) -> None:
    colony.heartbeat("scout")
    colony.heartbeat("rook")
    came = colony.clock.now
    colony.clock.advance(40)
    waits(colony)
    waits(colony, "rook")
    assert (seen(colony), seen(colony, "rook")) == (came, came)
    colony.gate.presence.write_down()
    assert (seen(colony), seen(colony, "rook")) == (colony.clock.now, colony.clock.now)


def test_who_comes_is_written_down_at_once(colony: Colony) -> None:
    waits(colony)
    assert seen(colony) == colony.clock.now, "nobody has heard of it before"
    colony.clock.advance(20)
    colony.heartbeat("scout")
    assert seen(colony) == colony.clock.now, "a worker that has just begun waits for nothing yet"
    for seconds in (61, -3600):
        colony.clock.advance(seconds)
        waits(colony)
        assert seen(colony) == colony.clock.now, "it was away for long, as the clock says"


def test_after_a_change_of_users_everybody_has_just_come(colony: Colony) -> None:
    waits(colony)
    colony.set_status("rook", "paused")
    colony.clock.advance(5)
    waits(colony)
    assert seen(colony) == colony.clock.now


def test_what_was_heard_before_the_clock_was_set_back_does_not_lie_ahead(colony: Colony) -> None:
    waits(colony)
    colony.clock.advance(30)
    waits(colony)
    colony.clock.advance(-20)
    colony.gate.presence.write_down()
    assert seen(colony) == colony.clock.now
