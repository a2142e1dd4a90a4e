"""Answers in the journal: each is delivered once, whatever dies, fills up or breaks in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from colony import errors, operations, schema
from colony.config import STATE_FILE
from colony_agent import state
from tests.colony_agent.agents import DONE, FAILED, NOTHING, Agent, House, Process, claim, wait_for
from tests.colony_agent.brains import WAITS_FOR_GO
from tests.colony_agent.relay import Relay, problem
from tests.server.machine import as_root

# The answer


def begin_and_answer_while_the_server_is_away(scout: Agent, turn: Process) -> None:
    """Up to the moment when the runner has ended and the journal is written, but nobody can be told."""
    wait_for(lambda: scout.runs() == 1, "running turn")
    scout.house.server.kill()
    (scout.home / "go").touch()
    wait_for(lambda: scout.state.finished, "answer in the journal")


def test_kill_9_between_the_answer_and_its_delivery_does_not_think_again(house: House, scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    try:
        with scout.begin("turn") as turn:
            begin_and_answer_while_the_server_is_away(scout, turn)
            turn.signal(signal.SIGKILL)
            turn.wait()
    finally:
        house.server.start()
    assert scout.turns()[0].state == "running"
    assert scout.turn().returncode == NOTHING  # nothing else was due
    assert scout.said() == ["answered"]
    assert scout.outcomes() == ["answered"]
    assert scout.runs() == 1
    assert scout.state.finished is None


def test_a_journal_that_was_delivered_already_changes_nothing(house: House, scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    journal = b""
    try:
        with scout.begin("turn") as turn:
            begin_and_answer_while_the_server_is_away(scout, turn)
            journal = (scout.home / STATE_FILE).read_bytes()
            house.server.start()
            assert turn.wait() == DONE
    finally:
        if not house.server.processes():
            house.server.start()
    (scout.home / STATE_FILE).write_bytes(journal)  # as if it had died just before it closed the journal
    scout.ask("again")
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"] * 2
    assert scout.outcomes() == ["answered"] * 2
    assert scout.runs() == 2


def journaled(scout: Agent) -> schema.Turn:
    """A turn whose answer is in the journal, as if its process had died before it told anybody."""
    scout.ask()
    turn = claim(scout)
    state.save(scout.home, STATE_FILE, state.State(finished=state.Finished(turn.id, turn.attempt, "answered", 10, 5, 0.25, None)))
    return turn


@pytest.mark.parametrize("error", [errors.ColonyError(), errors.Unauthenticated(), errors.Forbidden()], ids=lambda error: error.code)
def test_what_is_not_the_answers_fault_leaves_it_in_the_journal(scout: Agent, error: errors.ColonyError) -> None:
    journaled(scout)
    with Relay(scout.house.server.port, problem(error)) as relay:
        scout.settle(url=relay.url)
        done = scout.turn()
        assert (done.returncode, relay.connections) == (error.exit_code, 1)
        assert scout.state.finished
        assert scout.said() == []
        assert scout.turn().returncode == NOTHING
    assert scout.said() == ["answered"]
    assert scout.state.finished is None
    assert scout.runs() == 0


def test_a_token_that_is_no_longer_valid_costs_no_answer(scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        fresh = scout.house.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=scout.name)).token
        (scout.home / "go").touch()
        assert turn.wait() == errors.Unauthenticated.exit_code
    scout.settle(WAITS_FOR_GO, token=fresh)
    assert scout.turn().returncode == NOTHING
    assert (scout.said(), scout.runs()) == (["answered"], 1)


@pytest.mark.parametrize("error", [errors.StaleTurn(), errors.NotFound()], ids=lambda error: error.code)
def test_an_answer_that_nobody_waits_for_any_more_is_dropped(scout: Agent, error: errors.ColonyError) -> None:
    turn = journaled(scout)
    with Relay(scout.house.server.port, problem(error)) as relay:
        scout.settle(url=relay.url)
        done = scout.turn()
    assert "answer came too late" in done.stderr
    assert scout.state.finished is None
    assert (scout.turns()[0].id, scout.turns()[0].attempt) == (turn.id, 2)  # it goes on with what is left to do
    assert scout.said() == ["answered"]


def test_an_answer_that_the_server_refuses_fails_the_turn_and_does_not_block_the_next(scout: Agent) -> None:
    journaled(scout)
    with Relay(scout.house.server.port, problem(errors.Invalid("reply: it is odd"))) as relay:
        scout.settle(url=relay.url)
        assert scout.turn().returncode == NOTHING
    turn = scout.turns()[0]
    assert (turn.state, turn.failures, turn.error_code, turn.error) == ("resting", 1, "crashed", "reply: it is odd")
    assert scout.state.finished is None


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB, in a mount of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size=256k,uid={os.geteuid()}", "tmpfs", folder)
    yield folder
    as_root("umount", folder)


def test_a_full_disk_keeps_no_answer_from_its_channel(house: House, small_disk: Path) -> None:
    scout = house.agent(small_disk, "cat /dev/zero > fills.it; echo answered")
    scout.ask()
    done = scout.turn()
    assert done.returncode == DONE, done.stderr
    assert "state not saved" in done.stderr
    assert (scout.said(), scout.outcomes()) == (["answered"], ["answered"])
    assert [path.name for path in scout.home.glob(".*state*")] == [STATE_FILE]
    (scout.home / "fills.it").unlink()
    scout.settle()
    scout.ask()
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"] * 2


def test_a_full_disk_keeps_no_failure_from_the_server(house: House, small_disk: Path) -> None:
    scout = house.agent(small_disk, "cat /dev/zero > fills.it; echo the lamp is broken >&2; exit 3")
    scout.ask()
    assert scout.turn().returncode == FAILED
    assert scout.turns()[0].error == "the lamp is broken"


# A broken state


def become_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def become_a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


BROKEN: list[Callable[[Path], object]] = [
    lambda file: file.write_text("{"),
    lambda file: file.write_text("[]"),
    lambda file: file.write_text('{"sessions": {"general": {}}, "finished": null}'),
    lambda file: file.write_text('{"sessions": {}, "seen": 5, "finished": null}'),
    lambda file: file.write_text('{"sessions": {}, "finished": {"turn_id": "x"}}'),
    lambda file: file.write_text("[" * 100_000),
    lambda file: file.write_bytes(os.urandom(1000)),
    become_a_folder,
    become_a_link,
]


@pytest.mark.parametrize("break_it", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_state_is_put_aside_and_the_agent_lives_on(scout: Agent, break_it: Callable[[Path], object]) -> None:
    break_it(scout.home / STATE_FILE)
    scout.ask()
    done = scout.turn()
    assert done.returncode == DONE, done.stderr
    assert scout.said() == ["answered"]
    assert "state put aside" in done.stderr
    assert os.path.lexists(scout.home / f"{STATE_FILE}.broken")
    assert Path("/etc/passwd").read_text().startswith("root:")


def test_an_empty_or_missing_state_is_none(scout: Agent) -> None:
    (scout.home / STATE_FILE).unlink()
    scout.ask()
    done = scout.turn()
    assert (done.returncode, scout.said()) == (DONE, ["answered"])
    assert "put aside" not in done.stderr
