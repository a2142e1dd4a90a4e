"""One live attempt: a turn's lease, its lock, and what a killed one leaves to the next."""

from __future__ import annotations

import signal

import pytest

from colony import errors, operations, schema
from colony.client import Client
from tests.colony_agent.agents import DONE, FAILED, NOTHING, Agent, claim, wait_for
from tests.colony_agent.brains import HANGS_FIRST, WAITS_FOR_GO
from tests.colony_agent.cast import new_mark, running
from tests.colony_agent.relay import Relay, problem


def end_by_hand(scout: Agent, turn: schema.Turn) -> None:
    with Client(scout.house.server.url, scout.token, f"{turn.id}.{turn.attempt}") as client:
        client.call(operations.FINISH, schema.FinishTurn(id=turn.id))


def test_kill_9_of_a_turn_leaves_no_process_and_the_next_attempt_answers(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(HANGS_FIRST.format(mark))
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: running(mark), "running turn")
        turn.signal(signal.SIGKILL)
        turn.wait()
        wait_for(lambda: not running(mark), "end of its runner")
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"]
    assert [(turn.attempt, turn.failures, turn.state) for turn in scout.turns()] == [(2, 1, "finished")]


def test_the_answer_of_an_attempt_that_was_taken_over_comes_too_late(scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        newer = claim(scout, take_over=True)
        assert newer.attempt == 2
        (scout.home / "go").touch()
        assert turn.wait() == DONE
        assert "answer came too late" in turn.log()
    assert scout.said() == []
    assert scout.turns()[0].state == "running"
    assert scout.state.finished is None
    end_by_hand(scout, newer)


def test_a_turn_longer_than_its_lease_keeps_it(scout: Agent) -> None:
    scout.settle("echo run >> runs; sleep 6; echo answered", lease_seconds=5)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        first = scout.turns()[0].lease_until
        assert turn.wait() == DONE
    ended = scout.turns()[0]
    assert ended.lease_until > first
    assert (ended.attempt, ended.state, scout.said()) == (1, "finished", ["answered"])


def test_a_server_that_cannot_renew_a_lease_now_stops_no_runner(scout: Agent) -> None:
    refusals = [problem(error) for error in (errors.StorageFull(), errors.ColonyError(), errors.Unavailable())]
    with Relay(scout.house.server.port, None, *refusals) as relay:  # the first connection is the claim's
        scout.settle("echo run >> runs; sleep 5.5; echo answered", url=relay.url, lease_seconds=5)
        scout.ask()
        done = scout.turn()
    assert done.returncode == DONE, done.stderr
    assert done.stderr.count("lease not renewed") == len(refusals)
    assert (scout.said(), scout.turns()[0].attempt) == (["answered"], 1)


def test_a_runner_whose_lease_is_lost_is_stopped(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(f"sleep {mark}", lease_seconds=5)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: running(mark), "running turn")
        newer = claim(scout, take_over=True)
        assert turn.wait() == FAILED
        assert "lease lost" in turn.log()
        assert "taken away" in turn.log()
    assert not running(mark)
    assert (scout.turns()[0].state, scout.turns()[0].failures) == ("running", 1)
    end_by_hand(scout, newer)


@pytest.mark.parametrize("command", ["turn", "dream"])
def test_a_second_process_of_an_agent_finds_the_lock(scout: Agent, command: str) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        second = scout.run(command)
        assert second.returncode == NOTHING
        assert "no turn: a turn or a dream of it runs" in second.stderr
        (scout.home / "go").touch()
        assert turn.wait() == DONE
    assert (scout.said(), scout.runs(), scout.turns()[0].attempt) == (["answered"], 1, 1)
