"""Who holds how much: no agent can keep another out, and none can ask without end."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from time import monotonic

from egress.refusals import TooMany
from egress.settings import Bounds

MEBIBYTE = 2**20
GUARANTEED = 4  # connections that an agent gets even where the others hold all that there are
PIECES = 2  # of an agent's work, in a round: with one the loop would be at itself a tenth of the time
REMEMBERED = 4096  # whose recent requests are counted


class Rate:
    """A bucket of each that leaks so many times a second: what is in it above twice that is too much."""

    def __init__(self, per_second: float, clock: Callable[[], float] = monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._spent: dict[Hashable, tuple[float, float]] = {}  # how often, and when it was that much

    def takes(self, whose: Hashable) -> bool:
        """Whether once more is not too much; then it is counted."""
        rate, now = self._per_second, self._clock()
        spent, then = self._spent.get(whose, (0.0, now))
        left = max(0.0, spent - (now - then) * rate)
        if left + 1 > 2 * rate:
            return False
        if len(self._spent) >= REMEMBERED:
            self._spent = {other: each for other, each in self._spent.items() if each[0] > (now - each[1]) * rate}
        self._spent[whose] = left + 1, now
        return True


class Limits:
    """Counts connections and requests by agent; for one thread."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = monotonic) -> None:
        self._bounds, self._rate = bounds, Rate(bounds.requests_per_second, clock)
        self._held: Counter[str] = Counter()

    @contextmanager
    def seat(self, agent: str) -> Iterator[None]:
        """Counts one connection while it lasts. Raises `TooMany`."""
        self._require_room(agent)
        if not self._rate.takes(agent):
            raise TooMany(f"you ask more often than {self._bounds.requests_per_second} times a second")
        self._held[agent] += 1
        try:
            yield
        finally:
            self._held[agent] -= 1
            if not self._held[agent]:
                del self._held[agent]

    @property
    def held(self) -> int:
        return self._held.total()

    def _require_room(self, agent: str) -> None:
        held = self._held[agent]
        if held >= self._bounds.connections_per_agent:
            raise TooMany(f"you hold {held} connections, as many as an agent may")
        if held >= GUARANTEED and self.held >= self._bounds.connections:
            raise TooMany("all agents together hold as many connections as the gate has")


class Rounds:
    """Each agent has a few pieces of work done in each round of an event loop, by those of its connections that have waited for longest.

    So it costs the others the same, whether it has one connection at work or many.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Callable[[], bool]]] = {}  # of agents that have had this round

    async def mine(self, agent: str) -> None:
        """Returns when there is a round for it. Nothing that takes long may be done in one."""
        turn = asyncio.get_running_loop().create_future()
        if self.queue(agent, lambda: _settle(turn)):
            await turn

    def queue(self, agent: str, work: Callable[[], bool]) -> bool:
        """Have the work done when there is a round for it; False: there is one now, and whoever asks does the work.

        It says whether there was still something to do.
        """
        waiting = self._waiting.get(agent)
        if waiting is None:
            self._waiting[agent] = deque()
            loop = asyncio.get_running_loop()
            loop.call_soon(self._next, loop, agent)
            return False
        waiting.append(work)
        return True

    def _next(self, loop: asyncio.AbstractEventLoop, agent: str) -> None:
        waiting, left = self._waiting[agent], PIECES
        while waiting:
            work = waiting.popleft()
            try:
                left -= work()
            except BaseException:  # the others go on all the same
                loop.call_soon(self._next, loop, agent)
                raise
            if not left:
                loop.call_soon(self._next, loop, agent)
                return
        del self._waiting[agent]


def _settle(turn: asyncio.Future[None]) -> bool:
    if turn.done():
        return False
    turn.set_result(None)
    return True


class Room:
    """Bytes that are held for agents at once; for one thread. Each may hold a little even where the others hold all that there is."""

    def __init__(self, most: int = 128 * MEBIBYTE, per_agent: int = 48 * MEBIBYTE, guaranteed: int = 2 * MEBIBYTE) -> None:
        self._most, self._per_agent, self._guaranteed = most, per_agent, guaranteed
        self._held: Counter[str] = Counter()

    @contextmanager
    def held(self, agent: str) -> Iterator[Callable[[int], None]]:
        """What takes so many bytes more until the block ends. It raises `TooMany`."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            holds = self._held[agent] + size
            if holds > self._per_agent:
                raise TooMany(f"your requests hold {self._per_agent} bytes, as many as an agent's may at once")
            if holds > self._guaranteed and self._held.total() + size > self._most:
                raise TooMany("the requests of all agents together hold as many bytes as the gate has room for")
            self._held[agent] += size
            taken += size

        try:
            yield take
        finally:
            self._held[agent] -= taken
            if not self._held[agent]:
                del self._held[agent]


class Throttle:
    """Lets one of many pass in each second, and counts the others."""

    def __init__(self, seconds: float = 1.0, clock: Callable[[], float] = monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._passed: dict[str, tuple[float, int]] = {}  # when the last one passed, and how many have not since

    def passes(self, key: str) -> int | None:
        """How many were held back since the last that passed; None for one that is held back itself."""
        now = self._clock()
        then, held_back = self._passed.get(key, (None, 0))
        if then is not None and now - then < self._seconds:
            self._passed[key] = then, held_back + 1
            return None
        if len(self._passed) >= REMEMBERED:
            self._passed.clear()
        self._passed[key] = now, 0
        return held_back
