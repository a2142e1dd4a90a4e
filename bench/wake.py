"""How long a mention takes to wake its agent while others wait, and what the server holds meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping

from bench import house, memory, peers
from bench.crowd import waiting
from bench.figures import Figure, Plan, milliseconds, quantile
from bench.memory import MEBIBYTE

CROWDS = (10, 100, 500)
P50_BUDGET_SECONDS = 0.002  # with 500 agents waiting
P99_BUDGET_SECONDS = 0.020
MEMORY_BUDGET = 120 * MEBIBYTE  # likewise


def measure(plan: Plan) -> Iterator[Figure]:
    theirs = peers.wakes(plan)
    for agents in CROWDS:
        is_judged = agents == max(CROWDS)
        seconds, held = _wakes(plan, agents)
        yield _figure(agents, seconds, theirs if is_judged else {}, is_judged=is_judged)
        yield _memory(agents, held, is_judged=is_judged)


def _wakes(plan: Plan, agents: int) -> tuple[list[float], list[memory.Memory]]:
    """How long each mention took, and what the server's processes hold afterwards."""
    with house.open_house(plan, agents) as (home, server), waiting(home, server) as crowd:
        seconds = []
        for _ in range(plan.fewer(300, 100)):
            time.sleep(random.uniform(0.003, 0.010))
            seconds.append(crowd.time_to_wake(random.choice(list(home.agents))))
        return seconds, [memory.of(pid) for pid in memory.tree(server.pid)]


def _figure(agents: int, seconds: list[float], theirs: Mapping[str, list[float]], *, is_judged: bool) -> Figure:
    p50, p99 = quantile(seconds, 0.5), quantile(seconds, 0.99)
    return Figure(
        f"mention → awake, {agents} waiting, p50 / p99",
        f"{milliseconds(seconds)} ms",
        f"{P50_BUDGET_SECONDS * 1e3:.0f} / {P99_BUDGET_SECONDS * 1e3:.0f} ms" if is_judged else "",
        (p50 <= P50_BUDGET_SECONDS and p99 <= P99_BUDGET_SECONDS) if is_judged else None,
        "; ".join(f"{name} {milliseconds(waits)} ms = {quantile(waits, 0.5) / p50:.1f} ×" for name, waits in theirs.items()),
        {"agents": agents, "p50_seconds": p50, "p99_seconds": p99},
    )


def _memory(agents: int, held: list[memory.Memory], *, is_judged: bool) -> Figure:
    due = sum(each.proportional for each in held)
    resident = " + ".join(f"{each.resident / MEBIBYTE:.0f}" for each in held)
    return Figure(
        f"server with {agents} agents waiting: PSS (RSS of master + worker)",
        f"{due / MEBIBYTE:.0f} MB ({resident} MB)",
        f"≤ {MEMORY_BUDGET // MEBIBYTE} MB" if is_judged else "",
        due <= MEMORY_BUDGET if is_judged else None,
        values={"agents": agents, "proportional_bytes": due, "resident_bytes": sum(each.resident for each in held)},
    )
