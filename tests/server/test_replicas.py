"""Two servers on one PostgreSQL."""

from __future__ import annotations

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
def test_two_servers_share_numbers_turns_and_the_fence(colony: Colony, replica: Colony) -> None:
    with ThreadPoolExecutor(8) as pool:
        houses = (colony, replica) * 20
        seqs = list(pool.map(lambda house: house.post(house.ann, "@scout").seq, houses))
    assert sorted(seqs) == list(range(1, 41))
    turn = colony.turn(colony.scout)
    assert replica.claim(replica.scout).turn is None
    assert replica.finish(turn, "done").state == "finished"
    assert colony.finish(turn, "done again").posts[0].body == "done"
