"""Services that have given up are started again, with growing pauses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from provisioning.watch import revive
from provisioning.watch.revive import Past

SERVER, WORKER = "colony-server.service", "agent-scout-worker.service"


def started_at(minutes: range, failed: list[str]) -> list[int]:
    """The minutes at which a service is started that fails at once each time."""
    past: dict[str, Past] = {}
    starts = []
    for minute in minutes:
        due, past = revive.plan(past, failed, minute * 60.0)
        if due:
            assert due == failed
            starts.append(minute)
    return starts


def test_the_pauses_are_1_then_5_and_then_15_minutes() -> None:
    assert started_at(range(60), [SERVER]) == [1, 6, 21, 36, 51]


@pytest.mark.parametrize("unit", [SERVER, WORKER, "agent-a-b-c-worker.service"])
def test_the_server_and_workers_are_started(unit: str) -> None:
    assert started_at(range(3), [unit]) == [1]


@pytest.mark.parametrize("unit", ["colony-backup.service", "colony-watch.service", "agent-scout-dream.service", "ssh.service"])
def test_nothing_else_is(unit: str) -> None:
    assert started_at(range(60), [unit]) == []


def test_a_service_that_lived_for_an_hour_begins_anew() -> None:
    past = {SERVER: Past(0.0, 3)}
    assert revive.plan(past, [], 3599)[1] == past
    assert revive.plan(past, [], 3600)[1] == {}


def test_one_service_does_not_wait_for_another() -> None:
    past = {SERVER: Past(0.0, 2)}
    due, known = revive.plan(past, [SERVER, WORKER], 600)
    assert due == []
    assert revive.plan(known, [SERVER, WORKER], 660)[0] == [WORKER]


def test_what_is_remembered_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revive, "MEMORY", tmp_path)
    assert revive.remembered() == {}
    past = {SERVER: Past(12.5, 3)}
    revive.remember(past)
    assert revive.remembered() == past
    assert stat.S_IMODE((tmp_path / revive.FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"a": 1}', '{"a": {"at": 1, "b": 2}}'])
def test_a_memory_that_can_t_be_read_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(revive, "MEMORY", tmp_path)
    (tmp_path / revive.FILE).write_text(text)
    assert revive.remembered() == {}
