"""The promise as a whole, with real processes: mention an agent and you get exactly one answer, through crashes."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from colony import errors, operations, schema
from colony.client import Client
from tests.colony_agent.agents import Agent, House, housed, wait_for

CHANNELS = ("general", "garden", "kitchen")
ACKNOWLEDGED_WITHIN = 60.0  # seconds, through restarts of the server
ANSWERED_WITHIN = 100.0
BRAIN = "echo run >> runs; cat > /dev/null; {}; echo answered"


@pytest.fixture
def house(sqlite_file: Path) -> Iterator[House]:
    with housed(sqlite_file) as house:
        yield house


@pytest.fixture
def apes(house: House) -> Iterator[list[Client]]:
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="cleo", kind="ape"))
    for name in CHANNELS[1:]:
        house.ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name))
    token = house.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="cleo")).token
    with house.server.client(token) as cleo:
        yield [house.ann, house.bob, cleo]


def post_all(apes: list[Client], agents: list[Agent], count: int, pause_seconds: float = 0) -> list[schema.Message]:
    """Mentions from several threads at once, each insisted on until the server has acknowledged it."""
    turns = itertools.product(CHANNELS, agents, apes)
    plan = list(itertools.islice(itertools.cycle(turns), count))

    def post(number: int) -> schema.Message:
        channel, agent, ape = plan[number]
        time.sleep(pause_seconds)
        return _insist(ape, schema.PostMessage(channel=channel, body=f"@{agent.name} number {number}", client_id=f"whole:{number}"))

    with ThreadPoolExecutor(2 * len(apes)) as pool:
        return list(pool.map(post, range(count)))


def _insist(ape: Client, request: schema.PostMessage) -> schema.Message:
    deadline = time.monotonic() + ACKNOWLEDGED_WITHIN
    while True:
        try:
            return ape.call(operations.POST, request)
        except errors.Unavailable:
            assert time.monotonic() < deadline, "the server did not come back"
            time.sleep(0.05)


def require_exactly_one_answer_each(house: House, agents: list[Agent], posted: list[schema.Message]) -> int:
    """Every acknowledged post is there, and every mention was answered by exactly one reply. Gives the number of turns."""
    stored = {id: (channel, seq, body) for id, channel, seq, body in house.rows(_MESSAGES)}
    assert {message.id: (message.channel, message.seq, message.body) for message in posted}.items() <= stored.items()
    names = [agent.name for agent in agents]
    asked = [row for row in house.rows(_ITEMS) if row[0] in names]
    assert len({message.id for message in posted}) == len(posted)
    assert sorted(message_id for _, message_id, *_ in asked) == sorted(message.id for message in posted)
    assert Counter(outcome for *_, outcome, _ in asked) == {"answered": len(posted)}
    assert all(acked for *_, acked in asked)
    turns = {(turn, channel) for _, _, channel, turn, *_ in asked}
    replies = Counter((turn, channel) for author, turn, channel in house.rows(_REPLIES) if author in names)
    assert replies == dict.fromkeys(turns, 1)
    for _, last_seq, numbers in house.rows(_NUMBERS):
        assert sorted(map(int, numbers.split(","))) == list(range(1, last_seq + 1))
    return len(turns)


_MESSAGES = "SELECT messages.id, channels.name, seq, body FROM messages JOIN channels ON channels.id = channel_id"
_ITEMS = """SELECT username, message_id, channel_id, turn_id, outcome, acked_at IS NOT NULL
    FROM inbox JOIN users ON users.id = agent_id ORDER BY inbox.id"""
_REPLIES = "SELECT username, turn_id, channel_id FROM messages JOIN users ON users.id = author_id WHERE kind = 'agent'"
_NUMBERS = """SELECT channels.id, last_seq, group_concat(seq) FROM channels
    JOIN messages ON messages.channel_id = channels.id GROUP BY channels.id"""


def all_closed(house: House) -> bool:
    return not house.rows("SELECT 1 FROM inbox JOIN users ON users.id = agent_id WHERE kind = 'agent' AND acked_at IS NULL LIMIT 1")


def test_two_hundred_mentions_from_three_people_get_exactly_one_answer_each(house: House, apes: list[Client], tmp_path: Path) -> None:
    agents = [house.agent(tmp_path, BRAIN.format(":")) for _ in range(2)]
    began = time.monotonic()
    with agents[0].worker(), agents[1].worker():
        posted = post_all(apes, agents, 200)
        posting = time.monotonic() - began
        wait_for(lambda: all_closed(house), "answers to all", ANSWERED_WITHIN)
    turns = require_exactly_one_answer_each(house, agents, posted)
    assert sum(agent.runs() for agent in agents) == turns
    print(f"\nwhole: 200 mentions posted in {posting:.1f} s, answered in {time.monotonic() - began:.1f} s by {turns} turns")


def test_every_mention_gets_exactly_one_answer_though_server_and_workers_are_killed(
    house: House, apes: list[Client], tmp_path: Path
) -> None:
    agents = [house.agent(tmp_path, BRAIN.format("sleep 0.3")) for _ in range(2)]
    began = time.monotonic()
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        workers = [Resurrected(agent, stack) for agent in agents]
        posting = pool.submit(post_all, apes, agents, 120, 0.5)
        for round in range(3):
            time.sleep(0.7)
            house.server.kill()
            house.server.start()
            let_the_hurt_end(agents)
            workers[round % 2].kill_during_a_turn()
            let_the_hurt_end(agents)
        posted = posting.result()
        for worker in workers:
            worker.kill_during_a_turn(patience_seconds=2)
        wait_for(lambda: all_closed(house), "answers to all", ANSWERED_WITHIN, lambda: "\n".join(each.process.log() for each in workers))
        kills = sum(worker.kills for worker in workers)
    turns = require_exactly_one_answer_each(house, agents, posted)
    assert kills >= 2
    runs, seconds = sum(agent.runs() for agent in agents), time.monotonic() - began
    print(f"\nwhole: 120 mentions answered in {seconds:.1f} s by {turns} turns ({runs} runs), 3 kills of the server, {kills} of workers")


def let_the_hurt_end(agents: list[Agent]) -> None:
    """A turn that is lost a second time rests for a minute, which nobody wants to wait for."""
    hurt = unfinished(agents)
    wait_for(lambda: not hurt & unfinished(agents), "end of the turns that were hurt")


def unfinished(agents: list[Agent]) -> set[int]:
    return {turn.id for agent in agents for turn in agent.turns() if turn.state in ("running", "resting")}


class Resurrected:
    """A worker that is killed, with its turn, and started again; no turn twice."""

    def __init__(self, agent: Agent, stack: ExitStack) -> None:
        self._agent, self._stack = agent, stack
        self.kills = 0
        self.process = stack.enter_context(agent.worker())

    def kill_during_a_turn(self, patience_seconds: float = 10.0) -> None:
        """Kill it once it runs a turn for the first time, if it does within that time."""
        deadline = time.monotonic() + patience_seconds
        while not any((turn.state, turn.attempt) == ("running", 1) for turn in self._agent.turns()[:1]):
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        time.sleep(0.1)  # for the turn to have begun to think
        self.process.popen.kill()
        self.process.wait()
        self.kills += 1
        self.process = self._stack.enter_context(self._agent.worker())
