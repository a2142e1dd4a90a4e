"""Agents that would answer each other for ever stop by themselves, and people still get their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from colony import operations, schema
from tests.colony_agent.agents import Agent, House, housed, wait_for

QUIET_SECONDS = 3.0  # without a message, after which nobody speaks any more


@pytest.fixture
def house(sqlite_file: Path) -> Iterator[House]:
    with housed(sqlite_file) as house:
        yield house


@pytest.fixture
def talkers(house: House, tmp_path: Path) -> Iterator[list[Agent]]:
    """Three agents that mention the other two in whatever they say."""
    agents = [house.agent(tmp_path) for _ in range(3)]
    with ExitStack() as stack:
        for agent in agents:
            others = " ".join(f"@{other.name}" for other in agents if other is not agent)
            agent.settle(f"cat > /dev/null; echo run >> runs; echo '{others} what do you think?'")
            stack.enter_context(agent.worker())
        yield agents


def count(house: House) -> int:
    return int(house.rows("SELECT count(*) FROM messages")[0][0])


def silence(house: House) -> int:
    """How many messages there are once nobody speaks any more."""
    said, since = count(house), time.monotonic()
    deadline = since + 120
    while time.monotonic() - since < QUIET_SECONDS or house.rows("SELECT 1 FROM turns WHERE state = 'running'"):
        assert time.monotonic() < deadline, "they talk for ever"
        time.sleep(0.1)
        if (now := count(house)) != said:
            said, since = now, time.monotonic()
    return said


def open_items(house: House) -> int:
    query = "SELECT count(*) FROM inbox JOIN users ON users.id = agent_id WHERE kind = 'agent' AND acked_at IS NULL"
    return int(house.rows(query)[0][0])


def is_answered(question: schema.Message, agent: Agent) -> bool:
    return any(message.reply_to == question.id for message in agent.messages("general"))


def test_three_agents_that_mention_each_other_stop_and_a_person_is_answered_at_once(house: House, talkers: list[Agent]) -> None:
    for round in range(2):
        before = count(house)
        question = talkers[round].ask("what do you think?", channel="general")
        wait_for(partial(is_answered, question, talkers[0]), "an answer to a person")
        said = silence(house) - before
        print(f"\nloops: three agents in one channel said {said} messages until they stopped")
        assert 8 <= said <= 60
        assert open_items(house) == 0
    notices = [message.body for message in talkers[0].messages("general") if message.type == "notice"]
    assert notices
    assert all(body.startswith("Loop guard: ") for body in notices)


def test_a_chain_across_channels_ends_too(house: House, talkers: list[Agent]) -> None:
    for agent in talkers:
        for other in talkers:
            watch = schema.WatchChannel(channel=other.name)
            with house.server.client(agent.token) as client:
                client.call(operations.WATCH, watch)
    talkers[0].ask()
    said = silence(house)
    print(f"\nloops: three agents that watch each other's channels said {said} messages until they stopped")
    assert said <= 120
    assert open_items(house) == 0
    question = talkers[1].ask("and me?")
    wait_for(lambda: any(message.reply_to == question.id for message in talkers[1].messages()), "an answer to a person")
