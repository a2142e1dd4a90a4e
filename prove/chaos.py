"""Kills and stops the colony's processes, as planned."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from colony import errors, failpoints, operations, schema
from colony.client import Client
from colony.patience import repeated
from prove import processes
from prove.house import LEASE_SECONDS, STOP_SECONDS, Agent, House
from prove.plan import Blow, Crash, Kill, Stop, Target

HIT_SECONDS = 20.0  # how long a failpoint is waited for, before something else is tried
LAST_HIT_SECONDS = 60.0  # for those that were never hit
STOP_TRIES = 3
VICTIM_SECONDS = 10.0  # how long there may be nobody to kill
GLANCE_SECONDS = 0.01
PROVOKED_EVERY_SECONDS = 2.0
SERVER_SECONDS = 30.0  # for a server that was killed to answer again
TAKEN_OVER_SECONDS = 30.0  # for the other host to end what the first had begun
HURT_TWICE = 2  # failures; the fifth would end the turn with a notice instead of an answer
RENEWED_WITHIN_SECONDS = LEASE_SECONDS / 3 + 0.5


class Chaos:
    """Does one thing after the other; `kills` counts by kind what went down, `stops` who was away for longer than a lease."""

    def __init__(self, house: House, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.stops = 0
        self._house = house
        self._chance = random.Random(f"{seed} chaos")
        self._absence: threading.Thread | None = None

    @property
    def hit(self) -> set[str]:
        """The failpoints that were hit so far."""
        return {hit.point for hit in failpoints.hits(self._house.points)}

    def strike(self, blow: Blow) -> None:
        match blow:
            case Crash(point):
                self._crash(point, HIT_SECONDS)
            case Kill(target, after_seconds):
                time.sleep(after_seconds)
                self._kill(target)
            case Stop(point):
                any(self._stop(point) for _ in range(STOP_TRIES))

    def finish(self, points: Sequence[str]) -> None:
        """See everybody back, and try once more what was not hit: it may need more patience."""
        if self._absence:
            self._absence.join()
        for point in sorted({*points} - self.hit):
            self._crash(point, LAST_HIT_SECONDS)

    def _crash(self, point: str, within_seconds: float) -> None:
        if self._reached(point, "crash", within_seconds):
            self.kills["failpoint"] += 1

    def _reached(self, point: str, action: failpoints.Action, within_seconds: float) -> set[int]:
        """The pid of the process that went down there; empty if none came by."""
        before, deadline = failpoints.hits(self._house.points), time.monotonic() + within_seconds
        failpoints.arm(self._house.points, point, action)
        while self._is_armed(point) and time.monotonic() < deadline:
            self._provoke(point)
            _comes_true(lambda: not self._is_armed(point), PROVOKED_EVERY_SECONDS)
        failpoints.disarm(self._house.points, point)
        return {hit.pid for hit in failpoints.hits(self._house.points) - before}

    def _is_armed(self, point: str) -> bool:
        return (self._house.points / point).exists()

    def _provoke(self, point: str) -> None:
        """Let happen what leads there, where nothing else does: a turn fails when its runner dies, and renews when it thinks for long."""
        if "fail" in point:
            self._kill("runner")
        elif "renew" in point and (runner := self._victim("runner")):
            processes.send(runner, signal.SIGSTOP)
            _comes_true(lambda: not self._is_armed(point), RENEWED_WITHIN_SECONDS)
            processes.send(runner, signal.SIGCONT)

    def _kill(self, target: Target) -> None:
        def is_dead() -> bool:
            victim = self._victim(target)
            return victim is not None and processes.send(victim, signal.SIGKILL)

        if target.startswith("server"):  # one that is being started has nothing to lose
            _comes_true(self._house.answers, VICTIM_SECONDS)
        if _comes_true(is_dead, VICTIM_SECONDS):
            self.kills[target] += 1

    def _victim(self, target: Target) -> int | None:
        """The pid of one of them, if there is any."""
        match target:
            case "server":
                return self._house.server.pid
            case "server worker":
                return self._house.server_worker
            case "worker":
                return self._one(lambda agent: agent.worker.pid)
            case "turn":
                return self._one(lambda agent: agent.turn)
            case "runner":
                return self._one(lambda agent: agent.runner)

    def _one(self, of: Callable[[Agent], int | None]) -> int | None:
        found = [(agent, pid) for agent in self._house.agents if not agent.is_away and (pid := of(agent))]
        fit = [pid for agent, pid in found if not self._is_hurt(agent)]
        return self._chance.choice(fit or [pid for _, pid in found]) if found else None

    def _is_hurt(self, agent: Agent) -> bool:
        """Whether it works on something that has failed more than once: others are killed first."""
        with suppress(errors.Unavailable):
            return any(turn.failures >= HURT_TWICE for turn in self._open_turns(agent))
        return False

    def _open_turns(self, agent: Agent) -> list[schema.Turn]:
        """Raises `Unavailable` when the server does not come back."""
        request = schema.ListTurns(agent=agent.name, limit=20)
        with Client(self._house.url) as client:
            turns = repeated(lambda: client.call(operations.TURNS, request), SERVER_SECONDS).turns
        return [turn for turn in turns if turn.state in ("running", "resting")]

    def _stop(self, point: str) -> bool:
        """Whether a turn came by and stopped there."""
        if self._absence:
            self._absence.join()
        for pid in self._reached(point, "stop", HIT_SECONDS):
            worker = processes.parent(pid)
            agent = next((agent for agent in self._house.agents if worker and agent.worker.pid == worker), None)
            if agent:
                agent.is_away = True
                self._absence = threading.Thread(target=self._be_away, args=[agent, pid], daemon=True)
                self._absence.start()
                return True
            processes.send(pid, signal.SIGCONT)  # its worker has just been killed
        return False

    def _be_away(self, agent: Agent, turn: int) -> None:
        """The agent's host hangs; another one takes over, answers and ends; then the first goes on as if nothing had been."""
        worker = agent.worker.pid
        if worker:
            processes.send(worker, signal.SIGSTOP)
        hurt = {each.id for each in self._open_turns(agent)}
        twin = self._house.twin(agent)
        time.sleep(LEASE_SECONDS + 1)
        _comes_true(lambda: not hurt & {each.id for each in self._open_turns(agent)}, TAKEN_OVER_SECONDS)
        twin.let_go(STOP_SECONDS)
        for pid in (turn, worker):
            if pid:
                processes.send(pid, signal.SIGCONT)
        _comes_true(lambda: processes.parent(turn) is None, STOP_SECONDS)
        agent.is_away = False
        self.stops += 1


def _comes_true(condition: Callable[[], bool], within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        with suppress(OSError, errors.Unavailable):  # of a process that has just ended, of a server that begins
            if condition():
                return True
        time.sleep(GLANCE_SECONDS)
    return False
