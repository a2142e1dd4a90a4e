"""Two servers on one PostgreSQL: what one commits, the other's waiters hear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.support import Clock, Colony

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def replica(database_url: str, clock: Clock) -> Iterator[Colony]:
    replica = Colony(database_url, clock)
    yield replica
    replica.close()


@on_postgresql
def test_a_mention_on_one_server_wakes_the_agent_that_waits_on_the_other(colony: Colony, replica: Colony) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(replica.heartbeat, "scout", wait=10, status="healthy")
        while not replica.gate.waiters.asleep:
            time.sleep(0.005)
        began = time.monotonic()
        colony.post(colony.ann, "@scout")
        assert waiting.result(20).due
        assert time.monotonic() - began < 1


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
