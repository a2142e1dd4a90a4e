"""The pulse: what a worker starts unasked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.colony_agent.agents import Agent, idle, wait_for


def test_a_heartbeat_file_with_content_gets_a_pulse(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text("look after the garden\n")
    with scout.worker(pulse_seconds=1):
        wait_for(lambda: scout.turns() and scout.turns()[-1].state == "finished", "pulse")
        turn = scout.turns()[-1]
        assert (turn.kind, turn.channel) == ("pulse", None)
        assert "look after the garden" in (scout.home / "said.json").read_text()
        assert scout.said() == []


def test_an_empty_heartbeat_file_costs_nothing(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text(" \n\n")
    with scout.worker(pulse_seconds=1) as worker:
        idle(worker)
        time.sleep(1.5)
        assert worker.family() == []
    assert scout.turns() == []


def test_a_paused_agent_has_no_pulse(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text("look after the garden\n")
    scout.set_status("paused")
    with scout.worker(pulse_seconds=1) as worker:
        worker.await_log("status=paused")
        time.sleep(1.5)
    assert scout.turns() == []


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_link(path: Path) -> None:
    target = path.with_name("other.md")
    target.write_text("do this\n")
    path.symlink_to(target)


def as_folder(path: Path) -> None:
    path.mkdir()


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [as_pipe, as_link, as_folder, as_device, Path.unlink])
def test_an_odd_heartbeat_file_neither_hangs_nor_leads_it(scout: Agent, make: Callable[[Path], None]) -> None:
    file = scout.home / "heartbeat.md"
    if make is not Path.unlink:
        file.unlink()
    make(file)
    with scout.worker(pulse_seconds=1) as worker:
        idle(worker)
        time.sleep(1.5)
        assert scout.turns() == []
        scout.ask()
        assert scout.await_said() == ["answered"]
        assert worker.is_alive
