"""Chat to fifty clients that listen: what one message costs until all of them have it, here and in Synapse."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from time import perf_counter
from typing import Any, Protocol

from bench import house, wire
from bench.figures import Figure, Missing, Plan, milliseconds
from bench.peers.synapse_peer import Synapse

LISTENERS = 50
ROUND_SECONDS = 3.0
GIVE_UP_SECONDS = 30.0


class Room(Protocol):
    """A room with listeners, numbered from 0, and somebody who speaks."""

    name: str
    socket: Path

    def listen(self, listener: int, since: Any) -> bytes:
        """The request that is answered when there is news."""

    def heard(self, answer: Any) -> tuple[Any, int]:
        """What to listen from next, and how many messages came."""

    def say(self, text: str) -> bytes:
        """The request that posts."""


def measure(plan: Plan) -> Iterator[Figure]:
    with ExitStack() as stack:
        rooms: list[Room] = [stack.enter_context(_colony(plan))]
        try:
            rooms.append(stack.enter_context(Synapse.room(Path(mkdtemp(prefix="synapse-", dir=plan.folder)), LISTENERS)))
        except Missing as error:
            print(f"a peer is left out: {error}", flush=True)
        talks = {room.name: stack.enter_context(_talking(room)) for room in rooms}
        seconds: dict[str, list[float]] = {name: [] for name in talks}
        for number in range(1 + plan.fewer(5, 2)):
            for name, talk in talks.items():  # by turns, so that a slow moment of the machine hits all of them
                took = talk.go_on(ROUND_SECONDS if number else 0.5)
                seconds[name] += took if number else []
    rates = {name: LISTENERS / median(took) for name, took in seconds.items()}
    ours = rates.pop("Colony")
    compared = "; ".join(f"{name} {rate:,.0f}/s, {milliseconds(seconds[name])} ms" for name, rate in rates.items())
    values = {"deliveries_per_second": ours, "p50_seconds": median(seconds["Colony"])}
    values |= {f"{name.lower()}_deliveries_per_second": rate for name, rate in rates.items()}
    yield Figure(
        f"chat: deliveries/s to {LISTENERS} who listen; until the last has it",
        f"{ours:,.0f}/s, {milliseconds(seconds['Colony'])} ms" + "".join(f" = {ours / rate:.0f} × {name}" for name, rate in rates.items()),
        peers=compared or "Synapse is not installed",
        values=values,
    )


class _Talk:
    """One room with all its connections open."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._poll = select.epoll()
        self._numbers = count()
        self._speaker = wire.Connection(room.socket)
        self._listeners = [wire.Connection(room.socket) for _ in range(LISTENERS)]
        self._by_number = {connection.socket.fileno(): place for place, connection in enumerate(self._listeners)}
        for connection in (self._speaker, *self._listeners):
            self._poll.register(connection.socket, select.EPOLLIN)
        for place in range(LISTENERS):
            since, _ = room.heard(self._listeners[place].ask(room.listen(place, None)))
            self._listen(place, since)

    def go_on(self, seconds: float) -> list[float]:
        """Say one thing after the other for so long; the seconds from just before each until every listener has it."""
        took, until = [], perf_counter() + seconds
        while perf_counter() < until:
            took.append(self._say())
        return took

    def close(self) -> None:
        self._poll.close()
        for connection in (self._speaker, *self._listeners):
            connection.close()

    def _say(self) -> float:
        missing, is_posted = set(range(LISTENERS)), False
        began = perf_counter()
        self._speaker.send(self._room.say(f"hello {next(self._numbers)}"))
        while missing or not is_posted:
            arrived = self._poll.poll(GIVE_UP_SECONDS)
            if not arrived:
                raise RuntimeError(f"{len(missing)} listeners of {self._room.name} heard nothing in {GIVE_UP_SECONDS:.0f} s")
            for number, _ in arrived:
                place = self._by_number.get(number)
                if place is None:
                    is_posted |= self._speaker.receive() is not None
                elif (answer := self._listeners[place].receive()) is not None:
                    since, messages = self._room.heard(json.loads(answer))
                    if messages:
                        missing.discard(place)
                    self._listen(place, since)
        return perf_counter() - began

    def _listen(self, place: int, since: Any) -> None:
        self._listeners[place].send(self._room.listen(place, since))


@contextmanager
def _talking(room: Room) -> Iterator[_Talk]:
    talk = _Talk(room)
    try:
        yield talk
    finally:
        talk.close()


class _ColonyRoom:
    name = "Colony"

    def __init__(self, home: house.House) -> None:
        self.socket = home.socket
        self._ann, self._tokens = home.ann, list(home.agents.values())
        self._path = "/api/channels/crowd/messages"

    def listen(self, listener: int, since: Any) -> bytes:
        query = "limit=1" if since is None else f"since={since}&wait=25"
        return wire.request("GET", f"{self._path}?{query}", self._tokens[listener])

    def heard(self, answer: Any) -> tuple[Any, int]:
        return answer["last_seq"], len(answer["messages"])

    def say(self, text: str) -> bytes:
        return wire.request("POST", self._path, self._ann, {"body": text})


@contextmanager
def _colony(plan: Plan) -> Iterator[Room]:
    with house.open_house(plan, LISTENERS) as (home, _):
        yield _ColonyRoom(home)
