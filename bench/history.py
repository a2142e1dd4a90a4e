"""Whether an inbox with a long past is read as fast as one with none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from time import perf_counter

from pysqlite3 import dbapi2

from bench import house, wire
from bench.figures import Figure, Plan

RATIO_BUDGET = 1.5
ROUNDS = 30
CALLS = 20  # in a row, on each of the two in turn
OPEN_ITEMS = 3
AGENT = "agent0"

_PAST = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages)
INSERT INTO messages (channel_id, seq, author_id, body, type, created_at)
SELECT (SELECT id FROM channels WHERE name = 'quiet'), i, (SELECT id FROM users WHERE username = 'ann'), 'message ' || i, 'text', i FROM n
"""
_ITEMS = """
INSERT INTO inbox (agent_id, message_id, channel_id, "trigger", created_at, acked_at, outcome)
SELECT (SELECT id FROM users WHERE username = :agent), id, channel_id, 'mention', created_at, created_at + 1, 'answered'
FROM messages ORDER BY id LIMIT :items
"""
_LAST_SEQ = "UPDATE channels SET last_seq = :messages WHERE name = 'quiet'"


def measure(plan: Plan) -> Iterator[Figure]:
    with ExitStack() as stack:
        empty = stack.enter_context(house.built(plan, 1))
        full = stack.enter_context(house.built(plan, 1))
        acked = plan.history // 2 if plan.quick else plan.history // 10
        _fill(full, plan.history, acked)
        for home in (empty, full):
            stack.enter_context(house.served(home))
            _mention(home)
        for what, request in _polls().items():
            yield _figure(what, plan.history, acked, *_compare(empty, full, request))


def _fill(home: house.House, messages: int, items: int) -> None:
    with dbapi2.connect(str(home.database)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(_PAST, {"messages": messages})
        connection.execute(_ITEMS, {"agent": AGENT, "items": items})
        connection.execute(_LAST_SEQ, {"messages": messages})
    connection.close()


def _mention(home: house.House) -> None:
    """Both inboxes hold the same few open items."""
    connection = wire.Connection(home.socket)
    for _ in range(OPEN_ITEMS):
        connection.ask(wire.request("POST", "/api/channels/quiet/messages", home.ann, {"body": f"@{AGENT} please"}))
    connection.close()


def _polls() -> dict[str, tuple[str, str, dict[str, object] | None]]:
    return {
        "inbox poll": ("GET", "/api/inbox", None),
        "heartbeat": ("POST", f"/api/agents/{AGENT}/heartbeat", {"wait": 0, "status": "healthy"}),
    }


def _compare(empty: house.House, full: house.House, request: tuple[str, str, dict[str, object] | None]) -> tuple[float, float]:
    """The median seconds of one call without a past and with one."""
    method, path, fields = request
    sides = [(wire.Connection(home.socket), wire.request(method, path, home.agents[AGENT], fields)) for home in (empty, full)]
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for seconds, (connection, message) in zip(took, sides, strict=True):
            for _ in range(CALLS):
                began = perf_counter()
                connection.ask(message)
                seconds.append(perf_counter() - began)
    for connection, _ in sides:
        connection.close()
    return median(took[0]), median(took[1])


def _figure(what: str, messages: int, acked: int, empty: float, full: float) -> Figure:
    return Figure(
        f"{what}, {messages:,} messages, {acked:,} acked items",
        f"{full * 1e3:.2f} ms = {full / empty:.2f} × empty",
        f"≤ {RATIO_BUDGET} × empty",
        full <= RATIO_BUDGET * empty,
        values={"seconds": full, "empty_seconds": empty, "ratio": full / empty},
    )
