"""A clock that is set back: nobody waits until it has come again to where it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from colony import operations, schema
from server import backup, watch
from server.models.agent import Patience
from tests.server.support import Clock, Colony, only_sqlite

HOURS = 3600.0
PATIENCE = Patience()


def set_back(colony: Colony, hours: float = 2) -> None:
    """And the server looks, as it does at its start."""
    colony.clock.advance(-hours * HOURS)
    watch.follow_clock(colony.gate)


def is_due(colony: Colony, agent: str = "scout") -> bool:
    return colony.heartbeat(agent, status="healthy").due


def test_an_agent_that_waits_for_an_api_asks_it_again(colony: Colony) -> None:
    colony.post(colony.ann, "@scout hello")
    colony.fail(colony.turn(colony.scout), "rate_limited", retry_in_seconds=900)
    assert not is_due(colony)
    set_back(colony)
    assert is_due(colony)
    turn = colony.turn(colony.scout)
    colony.fail(turn, "rate_limited", retry_in_seconds=900)
    assert not is_due(colony)
    told = [message.body for message in colony.read() if message.type == "notice"]
    assert len(told) == 1, "it is still the same absence"


def test_a_turn_that_rests_after_a_failure_goes_on(colony: Colony) -> None:
    colony.post(colony.ann, "@scout hello")
    turn = colony.turn(colony.scout)
    colony.fail(turn, "crashed")
    assert not is_due(colony)
    set_back(colony)
    assert is_due(colony)
    assert colony.turn(colony.scout).id == turn.id


@pytest.mark.parametrize("kind", ["dream", "pulse"])
def test_a_dream_that_was_lost_keeps_nobody_waiting_for_longer_than_a_lease(colony: Colony, kind: schema.TurnKind) -> None:
    colony.turn(colony.scout, kind=kind, lease_seconds=3600)
    colony.post(colony.ann, "@scout hello")
    set_back(colony)
    assert not is_due(colony), "it may live"
    colony.clock.advance(60)
    assert is_due(colony)


def test_a_turn_that_lives_is_left_in_peace(colony: Colony) -> None:
    colony.post(colony.ann, "@scout hello")
    turn = colony.turn(colony.scout)
    set_back(colony)
    assert colony.claim(colony.scout).turn is None
    lease = colony.in_turn(turn).call(operations.RENEW, schema.RenewTurn(id=turn.id))
    assert lease.lease_until == colony.clock.now + timedelta(seconds=60)
    colony.finish(turn, "here I am")
    assert [reply.body for reply in colony.replies(turn.id)] == ["here I am"]


def test_a_budget_of_today_is_not_spent_by_days_to_come(colony: Colony) -> None:
    colony.admin.call(operations.SET_LIMITS, schema.SetLimits(agent="scout", budget_usd_per_day=1.0))
    colony.clock.advance(400 * 24 * HOURS)
    colony.post(colony.ann, "@scout one")
    colony.finish(colony.turn(colony.scout), "ok", usage=schema.Usage(cost_usd=1.0))
    colony.post(colony.ann, "@scout two")
    assert colony.claim(colony.scout).reason == "its budget of $1.00 a day is spent"
    set_back(colony, 400 * 24)
    assert is_due(colony)
    [seen] = [agent for agent in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if agent.username == "scout"]
    assert (seen.cost_usd_today, seen.turns_today, seen.held_until) == (0, 0, None)
    assert colony.turn(colony.scout).reserved_usd == 1.0


def test_who_falls_silent_afterwards_is_announced(colony: Colony) -> None:
    for name in ("scout", "rook"):
        colony.heartbeat(name)
    colony.set_status("scout", "paused")
    colony.set_status("scout", "healthy")  # at a time that has yet to come
    set_back(colony)
    colony.clock.advance(PATIENCE.silent_seconds + 1)
    colony.heartbeat("rook")
    watch.look(colony.gate, PATIENCE)
    [told] = [message.body for message in colony.read("ops")]
    assert told.startswith("scout is silent")


def test_a_clock_that_goes_on_ends_nobodys_wait(colony: Colony) -> None:
    colony.post(colony.ann, "@scout hello")
    colony.fail(colony.turn(colony.scout), "rate_limited", retry_in_seconds=900)
    watch.follow_clock(colony.gate)
    assert not is_due(colony)


class Hands:
    """The clocks that a running watch looks at: the wall's stands, and the other is told by hand how often it was slept on."""

    def __init__(self, colony: Colony, monkeypatch: pytest.MonkeyPatch, looks: dict[int, Callable[[], object]]) -> None:
        self._seconds, self._looks, self._colony = 0.0, looks, colony
        self.over = threading.Event()
        monkeypatch.setattr(watch, "monotonic", lambda: self._seconds)
        monkeypatch.setattr(colony.gate.waiters, "wait", self._wait)

    def _wait(self, topic: object, moment: int, until: float) -> bool:
        self._colony.clock.advance(until - self._seconds)
        self._seconds = until
        for name in ("scout", "rook"):
            self._colony.heartbeat(name)
        look = min(self._looks, default=0)
        if not self._looks:
            self._colony.gate.waiters._closed = True
            self.over.set()
        elif self._seconds >= look:
            self._looks.pop(look)()
        return False


def test_a_running_server_notices_that_the_clock_was_set_back(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    colony.post(colony.ann, "@scout hello")
    colony.fail(colony.turn(colony.scout), "rate_limited", retry_in_seconds=86_400)
    due: list[bool] = []
    steps: dict[int, Callable[[], object]] = {
        60: lambda: due.append(is_due(colony)),
        120: lambda: colony.clock.advance(-2 * HOURS),
        150: lambda: due.append(is_due(colony)),
    }
    hands = Hands(colony, monkeypatch, steps)
    watch.start(colony.gate, PATIENCE)
    assert hands.over.wait(20)
    assert due == [False, True]


def test_hours_that_were_skipped_are_nobodys_silence(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: dict[int, Callable[[], object]] = {
        120: lambda: None,
        150: lambda: colony.clock.advance(2 * HOURS),  # and before anybody has reported, the watch looks
        400: lambda: None,
    }
    hands = Hands(colony, monkeypatch, steps)
    watch.start(colony.gate, PATIENCE)
    assert hands.over.wait(20)
    assert [message.body for message in colony.read("ops")] == []


@only_sqlite
def test_backups_of_a_time_to_come_are_the_first_to_go(colony: Colony, clock: Clock, tmp_path: Path) -> None:
    file, folder = Path(colony.database_url.removeprefix("sqlite:///")), tmp_path / "backups"
    for days in (400, 401, 0, 1):
        made = backup.make(file, folder, 2, clock.now + timedelta(days=days))
        assert made.path.exists()
    left = sorted(path.name for path in folder.glob("colony-*"))
    assert [name[:13] for name in left] == ["colony-203001", "colony-203001"]
