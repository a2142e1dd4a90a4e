"""How a worker ends: what it makes of its turns' ends, SIGTERM, and deadlines."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from colony_agent.turn import Exit
from tests.colony_agent.agents import SOON, Agent, House, idle, living, wait_for
from tests.colony_agent.brains import sleeps_first
from tests.colony_agent.cast import new_mark, running

# How turns end


@pytest.mark.parametrize("code", list(Exit))
def test_it_knows_how_a_turn_may_end(scout: Agent, code: Exit) -> None:
    with scout.worker(turn_argv=["/bin/sh", "-c", f"echo x >> {scout.home}/starts; exit {code.value}"]) as worker:
        scout.ask()
        wait_for(lambda: (scout.home / "starts").exists() and (scout.home / "starts").read_text().count("x") > 1, "second turn")
        assert "turn crashed" not in worker.log()


@pytest.mark.parametrize("code", [1, 139])
def test_any_other_end_of_a_turn_is_told(scout: Agent, code: int) -> None:
    with scout.worker(turn_argv=["/bin/sh", "-c", f"exit {code}"]) as worker:
        scout.ask()
        worker.await_log(f"turn crashed agent={scout.name} code={code}")


# SIGTERM


def test_sigterm_ends_an_idle_worker_at_once(scout: Agent) -> None:
    with scout.worker() as worker:
        idle(worker)
        worker.signal(signal.SIGTERM)
        assert worker.wait(SOON) == 0
        assert worker.log().splitlines()[-1].startswith("worker ends")


def test_sigterm_hands_the_running_turn_back_and_leaves_no_process(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(sleeps_first(mark))
    with scout.worker() as worker:
        scout.ask()
        wait_for(lambda: running(mark), "running turn")
        family = worker.family()
        assert family
        worker.signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        wait_for(lambda: not living(family), "end of its processes", SOON)
    assert not running(mark)
    turn = scout.turns()[0]
    assert (turn.state, turn.failures, turn.error_code) == ("resting", 0, "stopped")
    with scout.worker():
        assert scout.await_said() == ["answered"]


def test_sigterm_at_any_moment_of_a_turns_start_is_heard(scout: Agent) -> None:
    """Also between the start of the child, its claim, and its runner."""
    with scout.worker() as worker:
        idle(worker)
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3):
        with scout.worker() as worker:
            idle(worker)
            scout.ask()
            time.sleep(delay)
            worker.signal(signal.SIGTERM)
            assert worker.wait(15) == 0
    with scout.worker():
        wait_for(lambda: scout.outcomes() == ["answered"] * 6, "answers")
    assert sum(turn.failures for turn in scout.turns()) == 0
    assert len(scout.said()) == len(scout.turns())


def test_a_turn_that_does_not_stop_is_killed(scout: Agent) -> None:
    mark = new_mark()
    with scout.worker(turn_argv=["/bin/sh", "-c", f"trap '' TERM; while :; do sleep {mark}; done"]) as worker:
        scout.ask()
        wait_for(lambda: running(mark), "running turn")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert "turn killed" in worker.log()
    wait_for(lambda: not running(mark), "end of the turn", SOON)


# Deadlines


def test_a_turn_past_its_deadline_is_killed_as_a_whole_tree(scout: Agent) -> None:
    mark = new_mark()
    hangs = f"trap '' TERM; (sleep {mark} &); setsid sleep {mark}"
    scout.settle(f"echo run >> runs; [ $(wc -l < runs) -gt 1 ] || {{ {hangs}; }}; echo answered")
    with scout.worker(turn_deadline_seconds=3) as worker:
        scout.ask()
        wait_for(lambda: len(running(mark)) >= 2, "running turn")
        worker.await_log("turn killed")
        wait_for(lambda: not running(mark), "end of the tree", SOON)
        assert scout.await_said() == ["answered"]
        turn = scout.turns()[0]
        assert (turn.attempt, turn.failures) == (2, 1)


def test_what_a_killed_turn_leaves_behind_ends_with_it(house: House, tmp_path: Path) -> None:
    """Even what has left its session, its group and its parents."""
    agent = house.agent(tmp_path, "setsid sleep 1000 & echo $! > stray; wait", sandbox="none")
    with agent.worker() as worker:
        agent.ask()
        wait_for(lambda: (agent.home / "stray").exists() and (agent.home / "stray").read_text().strip(), "the stray")
        stray = psutil.Process(int((agent.home / "stray").read_text()))
        turn = next(each for each in psutil.Process(worker.pid).children() if "turn" in each.cmdline())
        turn.kill()
        wait_for(lambda: not stray.is_running() or stray.status() == psutil.STATUS_ZOMBIE, "the end of the stray")
        assert worker.is_alive
