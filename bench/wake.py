"""How long a mention takes to wake its agent, while others wait."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from bench import house, peers
from bench.crowd import waiting
from bench.figures import Figure, Plan, milliseconds, quantile

CROWDS = (1, 100, 500)
P50_BUDGET_SECONDS = 0.002  # with 500 agents waiting
P99_BUDGET_SECONDS = 0.020


def measure(plan: Plan) -> Iterator[Figure]:
    compared = "; ".join(f"{name} {milliseconds(seconds)} ms" for name, seconds in peers.wakes(plan).items())
    for agents in CROWDS:
        is_judged = agents == max(CROWDS)
        yield _figure(agents, _wakes(plan, agents), is_judged=is_judged, compared=compared if is_judged else "")


def _wakes(plan: Plan, agents: int) -> list[float]:
    with house.open_house(plan, agents) as (home, server), waiting(home, server) as crowd:
        seconds = []
        for _ in range(plan.fewer(300, 100)):
            time.sleep(random.uniform(0.003, 0.010))
            seconds.append(crowd.time_to_wake(random.choice(list(home.agents))))
        return seconds


def _figure(agents: int, seconds: list[float], *, is_judged: bool, compared: str) -> Figure:
    p50, p99 = quantile(seconds, 0.5), quantile(seconds, 0.99)
    return Figure(
        f"mention → awake, {agents} waiting, p50 / p99",
        f"{milliseconds(seconds)} ms",
        f"{P50_BUDGET_SECONDS * 1e3:.0f} / {P99_BUDGET_SECONDS * 1e3:.0f} ms" if is_judged else "",
        (p50 <= P50_BUDGET_SECONDS and p99 <= P99_BUDGET_SECONDS) if is_judged else None,
        compared,
        {"p50_seconds": p50, "p99_seconds": p99},
    )
