"""Durable posts per second, with one mention and to fifty inboxes, each beside a bare endpoint in the same round."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

from bench import house, peers, wire
from bench.figures import Figure, Plan, milliseconds, quantile
from bench.load import Load, drive
from bench.processes import running

CLIENTS = 16
RECEIVERS = 50
ROUND_SECONDS = 1.5
TEXT = "please look at the failing build number"

P99_BUDGET_SECONDS = 0.040
MENTION_BUDGET = 0.75  # of the bare endpoint's rate
FAN_OUT_BUDGET = 0.6


def measure(plan: Plan) -> Iterator[Figure]:
    with house.open_house(plan, RECEIVERS) as (home, _), _bare(plan) as bare:
        targets = {"bare": (bare, _bare_posts()), "mention": (home.socket, _mentions(home)), "fan-out": (home.socket, _crowd(home))}
        loads = _rounds(targets, plan)
    rates = peers.enqueue_rates(plan, CLIENTS)
    ours = median(load.per_second for load in loads["mention"])
    compared = "; ".join(f"{name} {rate:,.0f} enqueues/s = {rate / ours:.1f} ×" for name, rate in rates.items())
    yield _figure("posts/s, one mention", loads["mention"], loads["bare"], MENTION_BUDGET, P99_BUDGET_SECONDS, compared)
    yield _figure(f"posts/s to {RECEIVERS} inboxes", loads["fan-out"], loads["bare"], FAN_OUT_BUDGET, None, "")
    latencies = [each for load in loads["bare"] for each in load.latencies]
    rate = median(load.per_second for load in loads["bare"])
    yield Figure("bare Flask endpoint, one insert", f"{rate:,.0f}/s, {milliseconds(latencies)} ms", values={"per_second": rate})


def _rounds(targets: dict[str, tuple[Path, Iterator[bytes]]], plan: Plan) -> dict[str, list[Load]]:
    """The targets by turns, again and again, so that a slow moment of the machine hits all of them; the first round only warms up."""
    loads: dict[str, list[Load]] = {name: [] for name in targets}
    for number in range(1 + plan.fewer(7, 3)):
        for name, (path, requests) in targets.items():
            load = drive(path, requests, CLIENTS, ROUND_SECONDS if number else 0.5)
            if number:
                loads[name].append(load)
    return loads


def _figure(what: str, loads: list[Load], bare: list[Load], budget: float, p99_budget: float | None, compared: str) -> Figure:
    latencies = [each for load in loads for each in load.latencies]
    rate = median(load.per_second for load in loads)
    ratio = median(ours.per_second / theirs.per_second for ours, theirs in zip(loads, bare, strict=True))
    p99 = quantile(latencies, 0.99)
    wanted = f"≥ {budget} × bare" + (f", p99 ≤ {p99_budget * 1e3:.0f} ms" if p99_budget else "")
    return Figure(
        f"{what}, durable, {CLIENTS} clients",
        f"{rate:,.0f}/s = {ratio:.2f} × bare, {milliseconds(latencies)} ms",
        wanted,
        ratio >= budget and (p99_budget is None or p99 <= p99_budget),
        compared,
        {"per_second": rate, "ratio": ratio, "p50_seconds": quantile(latencies, 0.5), "p99_seconds": p99},
    )


def _bare_posts() -> Iterator[bytes]:
    for number in count():
        yield wire.request("POST", "/posts", "x" * 43, {"body": f"@agent{number % RECEIVERS} {TEXT} {number}"})


def _mentions(home: house.House) -> Iterator[bytes]:
    for number in count():
        body = f"@agent{number % RECEIVERS} {TEXT} {number}"
        yield wire.request("POST", "/api/channels/quiet/messages", home.ann, {"body": body})


def _crowd(home: house.House) -> Iterator[bytes]:
    for number in count():
        yield wire.request("POST", "/api/channels/crowd/messages", home.ann, {"body": f"everyone {TEXT} {number}"})


@contextmanager
def _bare(plan: Plan) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bare-", dir=plan.folder))
    path = folder / "bare.sock"
    with running([sys.executable, "-m", "bench.bare", folder], folder / "log", ready=lambda: house.answers(path)):
        yield path
    shutil.rmtree(folder, ignore_errors=True)
