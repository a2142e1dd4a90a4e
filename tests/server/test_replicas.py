"""Two servers on one PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from colony import operations, schema
from tests.server.support import Clock, Colony

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def replica(database_url: str, clock: Clock) -> Iterator[Colony]:
    replica = Colony(database_url, clock)
    yield replica
    replica.close()


@on_postgresql
def test_a_long_poll_hears_at_its_end_what_another_server_was_told(colony: Colony, replica: Colony) -> None:
    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        inbox = pool.submit(colony.inbox, colony.bob, wait=1)
        channel = pool.submit(colony.ann.call, operations.READ, schema.ReadMessages(channel="general", since=0, wait=1))
        beat = pool.submit(colony.heartbeat, "scout", wait=1, status="healthy")
        while colony.gate.waiters.asleep < 3:
            time.sleep(0.005)
        replica.post(replica.ann, "@bob @scout")
        assert [item.message.body for item in inbox.result(5)] == ["@bob @scout"]
        assert [message.body for message in channel.result(5).messages] == ["@bob @scout"]
        assert beat.result(5).due
        assert time.monotonic() - began >= 1


@on_postgresql
def test_two_servers_share_numbers_turns_and_the_fence(colony: Colony, replica: Colony) -> None:
    with ThreadPoolExecutor(8) as pool:
        houses = (colony, replica) * 20
        seqs = list(pool.map(lambda house: house.post(house.ann, "@scout").seq, houses))
    assert sorted(seqs) == list(range(1, 41))
    turn = colony.turn(colony.scout)
    assert replica.claim(replica.scout).turn is None
    assert replica.finish(turn, "done").state == "finished"
    assert colony.finish(turn, "done again").posts[0].body == "done"
