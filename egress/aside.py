"""Work that blocks, in a thread that nobody has to wait for: neither who asked for it nor the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Callable[[], T]) -> asyncio.Future[T]:
    """What the work gives or raises, in this event loop. It goes on even if nobody waits any more: then `asyncio.shield` the future."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it may be nobody's by then

    def settle(give: Callable[[Any], None], found: object) -> None:
        if not future.done():
            give(found)

    def run() -> None:
        give: Callable[[Any], None] = future.set_result
        found: object
        try:
            found = work()
        except Exception as error:
            give, found = future.set_exception, error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, give, found)

    try:
        threading.Thread(target=run, name="aside", daemon=True).start()
    except RuntimeError as error:  # no more threads
        future.set_exception(OSError(str(error)))
    return future


class Seats:
    """Lets so many threads work at once, and so many of them for one agent; who finds no seat waits. For one event loop."""

    def __init__(self, most: int, per_agent: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._free_for: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_agent))

    async def run(self, agent: str, work: Callable[[], T]) -> T:
        """What the work gives or raises. A seat is free again when its thread is, which may be long after anybody waits for it."""
        seats = self._free_for[agent], self._free
        await seats[0].acquire()
        try:
            await seats[1].acquire()
        except BaseException:
            seats[0].release()
            raise
        begun = begin(work)
        for seat in seats:
            begun.add_done_callback(lambda _, seat=seat: seat.release())  # type: ignore[misc]
        return await asyncio.shield(begun)
