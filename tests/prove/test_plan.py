"""What will be done is drawn from the seed alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from colony.failpoints import POINTS
from prove.plan import STOPS, TARGETS, Crash, Kill, Options, Stop, blows


def test_the_same_seed_gives_the_same_blows() -> None:
    assert blows(Options(kills=200, seed=7)) == blows(Options(kills=200, seed=7))
    assert blows(Options(kills=200, seed=7)) != blows(Options(kills=200, seed=8))


@pytest.mark.parametrize("kills", [1, len(POINTS), 200, 1000])
def test_there_are_as_many_kills_as_asked_for_and_some_stops(kills: int) -> None:
    kinds = Counter(type(blow) for blow in blows(Options(kills=kills)))
    assert kinds[Crash] + kinds[Kill] == kills
    assert kinds[Stop] == max(1, kills // 25)


def test_every_failpoint_is_hit_and_everybody_killed() -> None:
    planned = blows(Options(kills=300))
    assert {blow.point for blow in planned if isinstance(blow, Crash)} == {*POINTS}
    assert {blow.target for blow in planned if isinstance(blow, Kill)} == {*TARGETS}
    assert {*STOPS} <= {*POINTS}


def test_stops_lie_between_the_kills() -> None:
    planned = blows(Options(kills=250))
    places = [place for place, blow in enumerate(planned) if isinstance(blow, Stop)]
    assert max(later - earlier for earlier, later in pairwise(places)) <= 30
