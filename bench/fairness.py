"""Whether an agent with a channel full of unanswered messages makes another one wait."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pysqlite3 import dbapi2

from bench import house, wire
from bench.crowd import waiting
from bench.figures import Figure, Plan, quantile
from bench.house import House

BACKLOG = 10_000
TURN_SECONDS = 0.1  # of the busy agent: far less than thinking takes
BUDGET = 2.0  # times the wake without a backlog, at the 95th percentile
CALM, BUSY = "agent0", "agent1"

_MESSAGES = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO messages (channel_id, seq, author_id, body, type, created_at)
SELECT (SELECT id FROM channels WHERE name = 'crowd'), i, (SELECT id FROM users WHERE username = 'ann'), 'please ' || i, 'text', i FROM n
"""
_ITEMS = """
INSERT INTO inbox (agent_id, message_id, channel_id, "trigger", created_at)
SELECT (SELECT id FROM users WHERE username = :agent), id, channel_id, 'watch', created_at FROM messages ORDER BY id
"""
_LAST_SEQ = "UPDATE channels SET last_seq = :count WHERE name = 'crowd'"


def measure(plan: Plan) -> Iterator[Figure]:
    alone, beside = (quantile(_wakes(plan, backlog), 0.95) for backlog in (0, BACKLOG))
    yield Figure(
        f"mention → awake beside an agent that works off {BACKLOG:,} items, p95",
        f"{beside * 1e3:.1f} ms = {beside / alone:.2f} × alone",
        f"≤ {BUDGET:.0f} × alone",
        beside <= BUDGET * alone,
        values={"p95_seconds": beside, "alone_p95_seconds": alone},
    )


def _wakes(plan: Plan, backlog: int) -> list[float]:
    with house.built(plan, agents=2) as home:
        _pile_up(home, backlog)
        calm = replace(home, agents={CALM: home.agents[CALM]})
        with house.served(home) as server, waiting(calm, server) as crowd, _at_work(home):
            return [_wake_after_a_while(crowd.time_to_wake) for _ in range(plan.fewer(400, 100))]


def _wake_after_a_while(time_to_wake: Callable[[str], float]) -> float:
    time.sleep(random.uniform(0.003, 0.030))
    return time_to_wake(CALM)


def _pile_up(home: House, count: int) -> None:
    with dbapi2.connect(str(home.database)) as connection:
        if count:
            connection.execute(_MESSAGES, {"count": count})
            connection.execute(_ITEMS, {"agent": BUSY})
            connection.execute(_LAST_SEQ, {"count": count})
    connection.close()


@contextmanager
def _at_work(home: House) -> Iterator[None]:
    """The busy agent takes a turn after the other, as long as it finds something due."""
    over = threading.Event()
    thread = threading.Thread(target=_work, args=(home, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _work(home: House, over: threading.Event) -> None:
    connection, token = wire.Connection(home.socket), home.agents[BUSY]
    while not over.wait(TURN_SECONDS):
        turn = connection.ask(wire.request("POST", "/api/turns", token, {}))["turn"]
        if turn:
            finish = {"reply": "done"}
            path = f"/api/turns/{turn['id']}/finish"
            connection.ask(wire.request("POST", path, token, finish, {"Colony-Turn": f"{turn['id']}.{turn['attempt']}"}))
    connection.close()
