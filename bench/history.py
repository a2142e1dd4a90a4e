"""Whether a colony with a long past is read as fast as one with none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter

from pysqlite3 import dbapi2

from bench import house, wire
from bench.figures import Figure, Plan

RATIO_BUDGET = 1.5
CALLS = 20  # in a row, on each of the two in turn
OPEN_ITEMS = 3
YOUNG = 200  # messages where there is no past to speak of
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
    """At a hundredth, a tenth and all of the history that is asked for; the last is judged."""
    with house.built(plan, 1) as young:
        _fill(young, YOUNG, 0)
        with house.served(young):
            _mention(young)
            for messages in (plan.history // 100, plan.history // 10, plan.history):
                yield from _grown(plan, young, messages, is_judged=messages == plan.history)


def _grown(plan: Plan, young: house.House, messages: int, *, is_judged: bool) -> Iterator[Figure]:
    acked = messages // 10
    with house.built(plan, 1) as old:
        _fill(old, messages, acked)
        with house.served(old):
            _mention(old)
            for what, requests in _queries(young, old, messages).items():
                yield _figure(what, messages, acked, *_compare(young, old, requests, plan.fewer(30, 6)), is_judged=is_judged)


def _fill(home: house.House, messages: int, items: int) -> None:
    """In the order of every index, so that each of them only grows at its end: 10 million messages take a minute or two."""
    with dbapi2.connect(str(home.database)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(_PAST, {"messages": messages})
        connection.execute(_ITEMS, {"agent": AGENT, "items": items})
        connection.execute(_LAST_SEQ, {"messages": messages})
    connection.close()
    with home.database.open("rb") as file:  # else the server's first commits write it out, and are measured for it
        os.fsync(file.fileno())


def _mention(home: house.House) -> None:
    """Both inboxes hold the same few open items."""
    connection = wire.Connection(home.socket)
    for _ in range(OPEN_ITEMS):
        connection.ask(wire.request("POST", "/api/channels/quiet/messages", home.ann, {"body": f"@{AGENT} please"}))
    connection.close()


def _queries(young: house.House, old: house.House, messages: int) -> dict[str, tuple[bytes, bytes]]:
    """By name: the request without a past, and with one."""
    heartbeat = {"wait": 0, "status": "healthy"}
    newest, middle = "/api/channels/quiet/messages?limit=50", "/api/channels/quiet/messages?limit=50&since={}"
    return {
        "inbox poll": _both(young, old, lambda home: wire.request("GET", "/api/inbox", home.agents[AGENT])),
        "heartbeat": _both(young, old, lambda home: wire.request("POST", f"/api/agents/{AGENT}/heartbeat", home.agents[AGENT], heartbeat)),
        "newest 50 messages": _both(young, old, lambda home: wire.request("GET", newest, home.ann)),
        "50 messages from the middle": (
            wire.request("GET", middle.format(YOUNG // 2), young.ann),
            wire.request("GET", middle.format(messages // 2), old.ann),
        ),
    }


def _both(young: house.House, old: house.House, request: Callable[[house.House], bytes]) -> tuple[bytes, bytes]:
    return request(young), request(old)


def _compare(young: house.House, old: house.House, requests: tuple[bytes, bytes], rounds: int) -> tuple[float, float]:
    """The median seconds of one call without a past and with one."""
    sides = [(wire.Connection(home.socket), message) for home, message in zip((young, old), requests, strict=True)]
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for seconds, (connection, message) in zip(took, sides, strict=True):
            for _ in range(CALLS):
                began = perf_counter()
                connection.ask(message)
                seconds.append(perf_counter() - began)
    for connection, _ in sides:
        connection.close()
    return median(took[0]), median(took[1])


def _figure(what: str, messages: int, acked: int, young: float, old: float, *, is_judged: bool) -> Figure:
    return Figure(
        f"{what}, {messages:,} messages, {acked:,} acked items",
        f"{old * 1e3:.2f} ms = {old / young:.2f} × without a past",
        f"≤ {RATIO_BUDGET} × without a past" if is_judged else "",
        old <= RATIO_BUDGET * young if is_judged else None,
        values={"messages": messages, "seconds": old, "young_seconds": young, "ratio": old / young},
    )
