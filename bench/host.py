"""A real host, in a machine of its own: how long a birth takes, and what fifty agents cost that have nothing to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench import memory
from bench.figures import Figure, Missing, Plan, quantile
from bench.memory import MEBIBYTE
from tests.guest.guest import Guest, why_not
from tests.guest.layers import Layers
from tests.guest.places import Place
from tests.host.cast import birth, prepare

P50_BUDGET_SECONDS, P95_BUDGET_SECONDS = 1.0, 2.0
RESIDENT_BUDGET = 12 * MEBIBYTE
PROCESSOR_BUDGET = 0.01  # of one, by all that runs on the host
SETTLE_SECONDS = 10.0  # until the newborn have introduced themselves


def measure(plan: Plan) -> Iterator[Figure]:
    if reason := why_not():
        raise Missing(reason)
    with machine() as host:
        prepare(host)
        seconds = [_born(host, f"agent{number}") for number in range(plan.fewer(20, 5))]
        yield _births(seconds)
        crowd = plan.fewer(50, 10)
        for number in range(len(seconds), crowd):
            _born(host, f"agent{number}")
        yield _rest(host, crowd, plan.rest_seconds)


@contextmanager
def machine() -> Iterator[Guest]:
    """A host on which Colony was just installed from this checkout."""
    place = Place()
    try:
        layers = Layers(place.folder)
        with Guest(layers=[layers.installed()], binds=layers.binds()) as host:
            yield host
    finally:
        place.give_back()


def _born(host: Guest, name: str) -> float:
    """The seconds of the whole command; when it ends, the agent's unit is active and the agent may work."""
    began = time.monotonic()
    birth(host, name)
    return time.monotonic() - began


def _births(seconds: list[float]) -> Figure:
    p50, p95 = quantile(seconds, 0.5), quantile(seconds, 0.95)
    return Figure(
        f"birth of an agent, the whole command, over {len(seconds)} births, p50 / p95",
        f"{p50:.2f} / {p95:.2f} s",
        f"≤ {P50_BUDGET_SECONDS:g} / {P95_BUDGET_SECONDS:g} s",
        p50 <= P50_BUDGET_SECONDS and p95 <= P95_BUDGET_SECONDS,
        values={"p50_seconds": p50, "p95_seconds": p95},
    )


def _rest(host: Guest, agents: int, seconds: float) -> Figure:
    _await_rest(host, agents)
    turns, used = _turns(host), _processor_seconds(host)
    began = time.monotonic()
    time.sleep(seconds)
    share = (_processor_seconds(host) - used) / (time.monotonic() - began)
    resident = [memory.of(pid).resident for pid in _workers(host)]
    begun = _turns(host) - turns
    is_met = len(resident) == agents and max(resident) <= RESIDENT_BUDGET and share < PROCESSOR_BUDGET and not begun
    return Figure(
        f"{agents} agents at rest for {seconds:.0f} s: the largest RSS, CPU of the whole host, turns",
        f"{max(resident) / MEBIBYTE:.1f} MB, {share:.2%}, {begun}",
        f"≤ {RESIDENT_BUDGET // MEBIBYTE} MB, < {PROCESSOR_BUDGET:.0%}, 0",
        is_met,
        values={"resident_bytes": max(resident), "processor_share": share, "turns": begun, "agents": len(resident)},
    )


def _await_rest(host: Guest, agents: int) -> None:
    """Until all are healthy and nothing waits for any of them."""
    deadline = time.monotonic() + 10 * SETTLE_SECONDS
    while True:
        found = json.loads(host.run("colony-agent", "status", "--json").stdout)
        calm = [each for each in found if each["worker"]["active"] == "active" and each["member"]["status"] == "healthy"]
        if len(calm) == agents and not any(each["member"]["inbox"] or each["trouble"] for each in calm):
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"of {agents} agents only {len(calm)} are well")
        time.sleep(1)
    time.sleep(SETTLE_SECONDS)


def _turns(host: Guest) -> int:
    found = json.loads(host.run("colony-agent", "status", "--json").stdout)
    return sum(int(each["member"]["turns_today"]) for each in found)


def _workers(host: Guest) -> list[int]:
    descendants = psutil.Process(host.leader).children(recursive=True)
    return [each.pid for each in descendants if any("worker.cpython" in word for word in each.cmdline())]


def _processor_seconds(host: Guest) -> float:
    """All that the host has used: what its processes have, and those that ended and were waited for."""
    init = psutil.Process(host.leader)
    return sum(sum(each.cpu_times()[:4]) for each in (init, *init.children(recursive=True)))
