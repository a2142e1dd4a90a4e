"""What doing nothing costs: an idle agent beside the peers' idle workers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import agents, house, memory, peers
from bench.figures import Figure, Plan
from bench.memory import MEBIBYTE

RESIDENT_BUDGET = 12 * MEBIBYTE
UNIQUE_BUDGET = 5 * MEBIBYTE
PROCESSOR_BUDGET = 0.0005  # of one
SETTLE_SECONDS = 2.0


def measure(plan: Plan) -> Iterator[Figure]:
    seconds = plan.fewer(10, 3)
    with house.open_house(plan, 1) as (home, _), agents.working(agents.settle(home, "agent0")) as pid, peers.idle_workers(plan) as others:
        time.sleep(SETTLE_SECONDS)
        shares = memory.processor_shares([pid, *others.values()], seconds)
        ours, theirs = memory.of(pid), {name: (memory.of(other), shares[other]) for name, other in others.items()}
        compared = [f"{name} {_told(*found)} = {found[0].resident / ours.resident:.1f} × the memory" for name, found in theirs.items()]
        yield _agent(ours, shares[pid], seconds, "; ".join(compared))


def _agent(found: memory.Memory, share: float, seconds: float, compared: str) -> Figure:
    return Figure(
        f"an idle agent: RSS, unique, CPU over {seconds:.0f} s",
        _told(found, share),
        f"≤ {RESIDENT_BUDGET // MEBIBYTE} MB, ≤ {UNIQUE_BUDGET // MEBIBYTE} MB, < {PROCESSOR_BUDGET:.2%}",
        found.resident <= RESIDENT_BUDGET and found.unique <= UNIQUE_BUDGET and share < PROCESSOR_BUDGET,
        compared,
        {"resident_bytes": found.resident, "unique_bytes": found.unique, "processor_share": share},
    )


def _told(found: memory.Memory, share: float) -> str:
    return f"{found.resident / MEBIBYTE:.1f} MB, {found.unique / MEBIBYTE:.1f} MB, {share:.3%}"
