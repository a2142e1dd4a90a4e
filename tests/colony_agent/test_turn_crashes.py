"""A turn that ends at a failpoint: whatever it had done by then, its question gets one answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from colony import failpoints
from colony.failpoints import EXIT_CODE, POINTS, VARIABLE
from tests.colony_agent.agents import Agent, House, housed
from tests.colony_agent.engines import ENGINES

BEFORE_THE_TURN = {"turn.before_claim"}
DELIVERED_LATER = {"turn.journaled", "turn.before_finish", "turn.finish_answered"}
AFTER_ALL = {"turn.before_exit"}
ELSEWHERE = {"turn.before_post", "turn.posted", "turn.before_renew", "turn.renewed", "turn.before_fail", "turn.fail_answered"}
ONCE = BEFORE_THE_TURN | DELIVERED_LATER | AFTER_ALL
BRAIN = "cat > /dev/null; env > environment; echo run >> runs; echo answered"
POSTS = """
import json, socket, sys
asked = json.load(sys.stdin)
call = {"name": "post", "arguments": {"channel": "general", "body": f"aside of {asked['turn']['id']}"}}
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(asked["tools"])
    connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode() + b"\\n")
    print(json.loads(connection.makefile().readline())["result"]["isError"])
"""


@pytest.fixture(scope="module")
def house(sqlite_file: Path) -> Iterator[House]:
    with housed(sqlite_file, "--first-backoff", "0.1") as house:
        yield house


@pytest.fixture
def scout(house: House, tmp_path: Path) -> Agent:
    return house.agent(tmp_path, BRAIN)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    folder = tmp_path / "points"
    folder.mkdir()
    return folder


def crash(scout: Agent, points: Path, point: str) -> None:
    failpoints.arm(points, point)
    assert scout.turn(env={VARIABLE: str(points)}).returncode == EXIT_CODE
    assert {hit.point for hit in failpoints.hits(points)} == {point}


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("turn.") and point not in ELSEWHERE])
def test_a_turn_that_ends_anywhere_answers_once_and_thinks_again_only_without_a_journal(scout: Agent, points: Path, point: str) -> None:
    scout.ask()
    crash(scout, points, point)
    scout.turn()
    assert scout.said() == ["answered"]
    assert scout.outcomes() == ["answered"]
    assert scout.state.finished is None
    if point in ONCE:
        assert scout.runs() == 1
    assert [(turn.state, turn.attempt) for turn in scout.turns()] == [("finished", 1 if point in ONCE else 2)]


@pytest.mark.parametrize("point", ["turn.before_post", "turn.posted"])
def test_a_turn_that_ends_while_it_posts_has_posted_once(scout: Agent, points: Path, point: str) -> None:
    scout.settle(command=["/usr/bin/python3", "-I", "brain.sh"], brain=POSTS)
    asked = scout.ask()
    crash(scout, points, point)
    scout.turn()
    turn = scout.turns()[0]
    assert (turn.state, turn.attempt, scout.said()) == ("finished", 2, ["False"])
    assert scout.said("general") == [f"aside of {turn.id}"]
    assert asked.channel == turn.channel


@pytest.mark.parametrize("point", ["turn.before_fail", "turn.fail_answered"])
def test_a_turn_that_ends_while_it_is_handed_back_is_done_again(scout: Agent, points: Path, point: str) -> None:
    scout.settle("echo run >> runs; [ $(wc -l < runs) -gt 1 ] || exit 1; echo answered")
    scout.ask()
    crash(scout, points, point)
    assert scout.turns()[0].state == ("running" if point == "turn.before_fail" else "resting")
    with scout.worker():
        assert scout.await_said() == ["answered"]
    assert (scout.runs(), scout.outcomes(), scout.turns()[0].failures) == (2, ["answered"], 1)


@pytest.mark.parametrize("sandbox", [*ENGINES, "none"])
def test_failpoints_are_unknown_in_the_sandbox(scout: Agent, points: Path, sandbox: str) -> None:
    scout.settle(BRAIN, sandbox=sandbox)
    scout.ask()
    scout.turn(env={VARIABLE: str(points)})
    assert scout.said() == ["answered"]
    assert VARIABLE not in (scout.home / "environment").read_text()
