"""What doing nothing costs: an idle agent beside the peers' idle workers, and the server while hundreds wait."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import agents, house, memory, peers
from bench.crowd import waiting
from bench.figures import Figure, Plan
from bench.memory import MEBIBYTE

RESIDENT_BUDGET = 12 * MEBIBYTE
UNIQUE_BUDGET = 5 * MEBIBYTE
PROCESSOR_BUDGET = 0.0005  # of one
SERVER_BUDGET = 120 * MEBIBYTE
WAITING = 500
SETTLE_SECONDS = 2.0


def measure(plan: Plan) -> Iterator[Figure]:
    seconds = plan.fewer(10, 3)
    with house.open_house(plan, 1) as (home, _), agents.working(agents.settle(home, "agent0")) as pid, peers.idle_workers(plan) as others:
        time.sleep(SETTLE_SECONDS)
        shares = memory.processor_shares([pid, *others.values()], seconds)
        compared = [f"{name} {_told(memory.of(other), shares[other])}" for name, other in others.items()]
        yield _agent(memory.of(pid), shares[pid], seconds, "; ".join(compared))
    yield _server(plan)


def _agent(found: memory.Memory, share: float, seconds: float, compared: str) -> Figure:
    return Figure(
        f"an idle agent: RSS, unique, CPU over {seconds:.0f} s",
        _told(found, share),
        f"≤ {RESIDENT_BUDGET // MEBIBYTE} MB, ≤ {UNIQUE_BUDGET // MEBIBYTE} MB, < {PROCESSOR_BUDGET:.2%}",
        found.resident <= RESIDENT_BUDGET and found.unique <= UNIQUE_BUDGET and share < PROCESSOR_BUDGET,
        compared,
        {"resident_bytes": found.resident, "unique_bytes": found.unique, "processor_share": share},
    )


def _server(plan: Plan) -> Figure:
    with house.open_house(plan, WAITING) as (home, server), waiting(home, server) as crowd:
        for name in list(home.agents)[:50]:
            crowd.time_to_wake(name)
        found = [memory.of(pid) for pid in memory.tree(server.pid)]
    held = sum(each.proportional for each in found)
    resident = " + ".join(f"{each.resident / MEBIBYTE:.0f}" for each in found)
    return Figure(
        f"server with {WAITING} agents waiting: PSS (RSS of master + worker)",
        f"{held / MEBIBYTE:.0f} MB ({resident} MB)",
        f"≤ {SERVER_BUDGET // MEBIBYTE} MB",
        held <= SERVER_BUDGET,
        values={"proportional_bytes": held, "resident_bytes": sum(each.resident for each in found)},
    )


def _told(found: memory.Memory, share: float) -> str:
    return f"{found.resident / MEBIBYTE:.1f} MB, {found.unique / MEBIBYTE:.1f} MB, {share:.3%}"
