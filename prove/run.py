"""One proof: start, strike, wait until all is settled, look at what is left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from colony import errors, lifeline, operations, schema
from colony.client import Client
from prove import history, plan
from prove.chaos import Chaos
from prove.history import History, Verdict
from prove.house import House
from prove.load import Load
from prove.plan import Options

GLANCE_SECONDS = 0.25
REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Proof:
    options: Options
    folder: Path
    sandbox: str
    kills: dict[str, int]  # by kind
    stops: int
    missed: list[str]  # failpoints that were never hit
    messages: int  # all that the channels hold
    turns: int
    verdict: Verdict
    seconds: float

    @property
    def holds(self) -> bool:
        return self.verdict.is_kept and not self.missed


def run(options: Options, say: Callable[[str], None]) -> Proof:
    """Kill as told and judge what is left. The folder stays unless the promise was kept or nobody waits for it. Raises `ColonyError`."""
    began = time.monotonic()
    lifeline.adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="colony-prove-", dir="/tmp"))  # short: a socket's path has 107 bytes
    house = House(folder, options)
    say(f"a private colony in {folder}; sandbox {house.sandbox}; seed {options.seed}")
    try:
        with house:
            chaos, found = _happens(house, options, say)
    except KeyboardInterrupt:
        house.remove()
        raise
    verdict = history.check(found)
    missed = sorted({*options.points} - chaos.hit)
    turns = len({message.turn_id for message in found.messages if message.turn_id})
    seconds = time.monotonic() - began
    proof = Proof(options, folder, house.sandbox, dict(chaos.kills), chaos.stops, missed, len(found.messages), turns, verdict, seconds)
    if proof.holds:
        house.remove()
    return proof


def _happens(house: House, options: Options, say: Callable[[str], None]) -> tuple[Chaos, History]:
    """All that was planned, and then what is left."""
    load, chaos = Load(house, options.seed, options.messages), Chaos(house, options.seed)
    load.start()
    _strike_all(chaos, load, options, say)
    load.stop()
    say("everybody is back; waiting for the last answers")
    _settle(house, options.patience_seconds)
    with Client(house.url) as client:
        return chaos, history.collect(client, [agent.name for agent in house.agents], load.asked)


def _strike_all(chaos: Chaos, load: Load, options: Options, say: Callable[[str], None]) -> None:
    told = time.monotonic()
    for blow in plan.blows(options):
        if load.failure:
            return
        chaos.strike(blow)
        if time.monotonic() > told + REPORT_SECONDS:
            told = time.monotonic()
            say(f"{chaos.kills.total()} of {options.kills} kills, {len(load.asked)} messages asked")
    chaos.finish(options.points)


def _settle(house: House, patience_seconds: float) -> None:
    """Until every agent has nothing left to do, or nothing has moved for long."""
    last, moved = (0, 0), time.monotonic()
    with Client(house.url) as client:
        while time.monotonic() < moved + patience_seconds:
            time.sleep(GLANCE_SECONDS)
            try:
                agents = client.call(operations.AGENTS, schema.ListAgents()).agents
                channels = client.call(operations.CHANNELS, schema.ListChannels()).channels
            except errors.Unavailable:
                continue
            if not any(agent.inbox or agent.turn_id for agent in agents) and not any(agent.turn for agent in house.agents):
                return
            if (now := (sum(agent.inbox for agent in agents), sum(channel.last_seq for channel in channels))) != last:
                last, moved = now, time.monotonic()
