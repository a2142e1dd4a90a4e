"""All that /metrics tells: what was counted, and what the colony holds right now."""

from __future__ import annotations

from server.gate import Gate
from server.metrics import Family, Sample, gauge, text
from server.models import agent, turn
from server.stream import Streams

MAX_AGENTS = 200  # with series of their own: those with the oldest items


def metrics(gate: Gate, streams: Streams) -> str:
    with gate.database.read() as connection:
        running = turn.running_by_kind(connection)
        waiting = agent.waiting(connection, gate.clock())
        size = gate.database.size(connection)
    named = waiting[:MAX_AGENTS]
    families = [
        *gate.metrics.families(),
        Family("colony_turns_running", "gauge", "Turns that are running.", [Sample({"kind": kind}, n) for kind, n in running.items()]),
        gauge("colony_agents_waiting", "Agents with something in their inbox.", len(waiting)),
        gauge("colony_inbox_waiting", "Inbox items of agents that wait.", sum(each.items for each in waiting)),
        Family(
            "colony_agent_inbox_waiting",
            "gauge",
            f"Inbox items that wait, by agent; of the {MAX_AGENTS} agents whose oldest item waits longest.",
            [Sample({"agent": each.agent}, each.items) for each in named],
        ),
        Family(
            "colony_agent_inbox_oldest_seconds",
            "gauge",
            "Age of the oldest inbox item that waits, by agent; of the same agents.",
            [Sample({"agent": each.agent}, each.oldest_seconds) for each in named],
        ),
        gauge("colony_waiters_asleep", "Requests that wait for news.", gate.waiters.asleep),
        gauge("colony_streams_open", "Streams of events that are open.", streams.open),
        gauge("colony_database_bytes", "Size of the database.", size),
    ]
    if writer := gate.database.writer:
        families += [
            gauge("colony_writer_queue", "Units of work that wait for the writer.", writer.queued),
            Family("colony_writer_batch_size", "histogram", "Units of work in one commit.", writer.batches.samples({})),
        ]
    return text(families)
