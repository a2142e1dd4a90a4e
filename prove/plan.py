"""What will be done to the colony: everything that chance decides is drawn from the seed, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from colony.failpoints import POINTS

Target = Literal["server", "server worker", "worker", "turn", "runner"]
TARGETS: tuple[Target, ...] = ("server", "server worker", "worker", "turn", "runner")
_WEIGHTS = (1, 1, 2, 3, 3)
STOPS = ("turn.claimed", "turn.before_post", "turn.posted", "turn.runner_ended", "turn.before_finish")
KILLS_PER_STOP = 25


@dataclass(frozen=True)
class Options:
    kills: int = 100
    seed: int = 1
    agents: int = 6
    apes: int = 3
    messages: int = 50  # at least; the load goes on for as long as there is something to kill
    database_url: str | None = None  # absent: SQLite in the run's own folder
    points: tuple[str, ...] = POINTS  # the failpoints that must be hit
    stops: tuple[str, ...] = STOPS
    patience_seconds: float = 90.0  # without any progress after the last blow: then what is open counts as unknown
    server_argv: tuple[str, ...] | None = None  # what to start instead of colony-server; only tests have another one


@dataclass(frozen=True)
class Crash:
    """A process ends at a failpoint."""

    point: str


@dataclass(frozen=True)
class Kill:
    """`kill -9` at whatever moment."""

    target: Target
    after_seconds: float


@dataclass(frozen=True)
class Stop:
    """A turn stops at a failpoint for longer than its lease, while another host goes on as the same agent; then it continues."""

    point: str


Blow = Crash | Kill | Stop


def blows(options: Options) -> list[Blow]:
    """So many crashes and kills, of which each failpoint gets at least one where the number allows it; and some stops between them."""
    chance = random.Random(options.seed)
    points = list(options.points)
    chance.shuffle(points)
    crashes: list[Blow] = [Crash(point) for point in points[: options.kills]]
    for _ in range(options.kills - len(crashes)):
        crashes.append(Crash(chance.choice(options.points)) if chance.random() < 0.5 else _kill(chance))
    chance.shuffle(crashes)
    stops = [Stop(chance.choice(options.stops)) for _ in range(max(1, options.kills // KILLS_PER_STOP) if options.stops else 0)]
    return list(_spread(crashes, stops))


def _kill(chance: random.Random) -> Kill:
    return Kill(chance.choices(TARGETS, _WEIGHTS)[0], chance.random() * 0.5)


def _spread(blows: list[Blow], stops: list[Stop]) -> Iterator[Blow]:
    every = max(1, len(blows) // (len(stops) + 1))
    for place, blow in enumerate(blows):
        if stops and place % every == 0:
            yield stops.pop()
        yield blow
    yield from stops
