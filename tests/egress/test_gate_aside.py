"""Work beside the event loop has seats, and who is gone holds one until the work is done."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from functools import partial

from egress.aside import Seats


def test_all_agents_together_hold_no_more_threads_than_there_are_seats() -> None:
    working, over = list[str](), threading.Event()

    def work(agent: str) -> None:
        working.append(agent)
        over.wait(30)

    async def ask_all() -> None:
        seats = Seats(most=5, per_agent=2)
        asking = [asyncio.create_task(seats.run(agent, partial(work, agent))) for agent in ("scout", "rook", "robin") for _ in range(4)]
        while len(working) < 5:
            await asyncio.sleep(0.01)
        for each in asking[:4]:
            each.cancel()
        await asyncio.sleep(0.1)
        assert sorted(Counter(working).values()) == [1, 2, 2]
        over.set()
        await asyncio.gather(*asking, return_exceptions=True)
        assert Counter(working) == {"scout": 2, "rook": 4, "robin": 4}

    asyncio.run(ask_all())
