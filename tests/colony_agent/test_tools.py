"""The agent's tools: which there are, how they are described, and what they answer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Semaphore
from typing import Any

import httpx
import pytest

from colony import operations, schema
from colony.client import Client
from colony_agent.tools import AT_ONCE, TOOLS, Result, Toolbox, described
from tests.colony_agent.agents import LONG, Agent, toolbox
from tests.colony_agent.cast import turn_of
from tests.colony_agent.relay import Relay


def begin(scout: Agent, **more: Any) -> schema.Turn:
    with Client(scout.house.server.url, scout.token) as client:
        turn = client.call(operations.CLAIM, schema.ClaimTurn(**more)).turn
    assert turn
    return turn


@pytest.fixture
def tools(scout: Agent) -> Toolbox:
    """The tools of a turn that runs."""
    scout.ask()
    return toolbox(scout, begin(scout))


def test_the_tools_are_the_operations_marked_as_such() -> None:
    assert TOOLS
    assert set(TOOLS) == {row.name for row in operations.OPERATIONS.values() if row.is_tool}
    assert [name for name, tool in TOOLS.items() if tool.method != "GET"] == ["post"], "as docs/access.md says"
    assert not {"claim", "finish", "fail", "renew", "heartbeat", "create_user", "issue_token", "set_status"} & set(TOOLS)


@pytest.mark.parametrize("operation", TOOLS.values(), ids=TOOLS)
def test_each_is_described_without_the_fields_that_are_not_the_agents(operation: operations.Operation[Any, Any]) -> None:
    description = described(operation)
    fields = description["inputSchema"]["properties"]
    assert description["name"] == operation.name
    assert operation.request.__doc__
    assert description["description"] == operation.request.__doc__.strip()
    assert fields.keys() == operation.request.model_fields.keys() - {"client_id", "wait", "user"}
    assert set(description["inputSchema"].get("required", [])) <= fields.keys()
    assert description["inputSchema"]["additionalProperties"] is False


ARGUMENTS: dict[str, dict[str, Any]] = {"read": {"channel": "general"}, "post": {"channel": "general", "body": "hi"}}


@pytest.mark.parametrize("name", TOOLS)
def test_each_answers_with_the_operations_response(tools: Toolbox, name: str) -> None:
    result = tools.call(name, ARGUMENTS.get(name, {}))
    assert not result.is_error, result.text
    TOOLS[name].response.model_validate_json(result.text)


def test_who_it_is_is_the_agent(scout: Agent, tools: Toolbox) -> None:
    assert json.loads(tools.call("whoami", {}).text)["username"] == scout.name


@pytest.mark.parametrize("name", ["general", "#general"])
def test_a_channel_may_be_written_with_its_sign(tools: Toolbox, name: str) -> None:
    assert json.loads(tools.call("read", {"channel": name}).text)["channel"] == "general"


def test_a_post_belongs_to_the_turn(scout: Agent) -> None:
    scout.ask()
    turn = begin(scout)
    posted = schema.Message.model_validate_json(toolbox(scout, turn).call("post", {"channel": "#general", "body": "hi"}).text)
    assert (posted.author, posted.turn_id, posted.hops) == (scout.name, turn.id, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("claim", {}, "no tool claim"),
        ("", {}, "no tool"),
        ("read", {}, "channel: Field required"),
        ("read", {"channel": "nowhere"}, "no channel nowhere"),
        ("read", {"channel": 5}, "channel: "),
        ("read", {"channel": ["general"]}, "channel: "),
        ("read", {"channel": "../users"}, "channel: "),
        ("read", {"channel": "general", "limit": 10**9}, "limit: "),
        ("read", {"channel": "general", "wait": 25}, "wait: not a field of read"),
        ("read", {"channel": "general", "shout": True}, "shout: "),
        ("post", {"channel": "general", "body": ""}, "body: "),
        ("post", {"channel": "general", "body": "x\0y"}, "NUL"),
        ("post", {"channel": "general", "body": "x" * 65537}, "body: "),
        ("post", {"channel": "general", "body": "x", "client_id": "1:reply"}, "client_id: not a field of post"),
        ("post", {"channel": "general", "body": "x", "type": "notice"}, "notice"),
        ("post", {"channel": "general", "body": "x", "reply_to": 10**12}, "no message"),
        ("inbox", {"user": "ann"}, "user: not a field of inbox"),
    ],
)
def test_what_is_wrong_is_said_in_words(tools: Toolbox, name: str, arguments: dict[str, Any], says: str) -> None:
    result = tools.call(name, arguments)
    assert result.is_error
    assert says in result.text


def test_an_attempt_that_is_repeated_finds_what_it_posted(scout: Agent) -> None:
    scout.ask()
    first = toolbox(scout, begin(scout))
    for body in ("one", "two", "two"):
        assert not first.call("post", {"channel": scout.name, "body": body}).is_error
    second = toolbox(scout, begin(scout, take_over=True))
    for body in ("two", "one", "two"):
        again = second.call("post", {"channel": scout.name, "body": body})
        assert not again.is_error
        assert again.text.startswith("This was posted before the turn was interrupted")
        assert f'"body":"{body}"' in again.text
    for body in ("two", "three"):
        assert "interrupted" not in second.call("post", {"channel": scout.name, "body": body}).text
    assert "interrupted" not in second.call("post", {"channel": "general", "body": "one"}).text
    assert scout.said() == ["one", "two", "two", "two", "three"]
    assert scout.said("general")[-1] == "one"


def test_a_post_whose_answer_was_lost_appears_once(scout: Agent) -> None:
    scout.ask()
    turn = begin(scout)
    with Relay(scout.house.server.port, swallowed=2) as relay:
        result = toolbox(scout, turn, relay.url).call("post", {"channel": scout.name, "body": "one"})
        assert not result.is_error, result.text
        assert relay.connections == 3
    assert scout.said() == ["one"]


def test_a_post_insists_while_the_server_restarts(scout: Agent) -> None:
    scout.ask()
    tools = toolbox(scout, begin(scout))
    scout.house.server.kill()
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(tools.call, "post", {"channel": scout.name, "body": "one"})
        scout.house.server.start()
        assert not posting.result(LONG).is_error
    assert scout.said() == ["one"]


def test_a_post_that_is_repeated_by_the_model_after_its_answer_was_lost_appears_once(scout: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colony_agent.tools.POST_SECONDS", 0.5)
    scout.ask()
    turn = begin(scout)
    with Relay(scout.house.server.port, swallowed=1000) as relay:
        tools = toolbox(scout, turn, relay.url)
        assert tools.call("post", {"channel": scout.name, "body": "one"}).is_error
        assert scout.said() == ["one"]
        relay.swallowed = 0
        for body in ("two", "one", "one"):  # only the first "one" is a repetition
            assert not tools.call("post", {"channel": scout.name, "body": body}).is_error
    assert scout.said() == ["one", "two", "one"]
    keys = scout.house.rows("SELECT client_id FROM messages WHERE turn_id = ? ORDER BY id", turn.id)
    assert len(set(keys)) == len(keys) == 3


def test_what_every_post_of_a_turn_carries(scout: Agent) -> None:
    scout.ask()
    for attempt in (1, 2):
        turn = begin(scout, take_over=True)
        tools = toolbox(scout, turn)
        for n in range(2):
            assert not tools.call("post", {"channel": scout.name, "body": f"{attempt} {n}"}).is_error
    keys = scout.house.rows("SELECT client_id FROM messages WHERE turn_id = ? ORDER BY id", turn.id)
    assert keys == [(f"{turn.id}:{attempt}.{n}",) for attempt in (1, 2) for n in range(2)]


def test_an_attempt_that_says_something_else_has_its_own_posts(scout: Agent) -> None:
    scout.ask()
    assert not toolbox(scout, begin(scout)).call("post", {"channel": scout.name, "body": "one"}).is_error
    tools = toolbox(scout, begin(scout, take_over=True))
    for body in ("another", "one"):
        assert not tools.call("post", {"channel": scout.name, "body": body}).is_error
    assert scout.said() == ["one", "another"]


def test_posts_side_by_side_break_nothing_even_if_they_are_alike(scout: Agent) -> None:
    scout.ask()
    tools = toolbox(scout, begin(scout))
    start = Barrier(8)

    def post(number: int) -> Result:
        start.wait()
        return tools.call("post", {"channel": scout.name, "body": f"words {number % 2}"})

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(post, range(8)))
    assert [result.text for result in results if result.is_error] == []
    assert {"words 0", "words 1"} == set(scout.said())
    assert not tools.call("post", {"channel": scout.name, "body": "words 0"}).is_error
    assert scout.said()[-1] == "words 0"


def test_a_turn_that_calls_very_often_at_once_is_served_a_few_at_a_time() -> None:
    calls: list[httpx.Request] = []
    at_work, over = Semaphore(0), Event()

    def serve(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        at_work.release()
        over.wait(20)
        return httpx.Response(503)

    tools = Toolbox(Client("http://colony", transport=httpx.MockTransport(serve)), turn_of())
    with ThreadPoolExecutor(32) as pool:
        results = [pool.submit(tools.call, "whoami", {}) for _ in range(32)]
        for _ in range(AT_ONCE):
            assert at_work.acquire(timeout=20)
        assert not at_work.acquire(timeout=0.3)
        over.set()
        assert all(result.result(20).is_error for result in results)
    assert len(calls) == 32


def test_the_same_words_twice_are_two_posts(scout: Agent) -> None:
    scout.ask()
    tools = toolbox(scout, begin(scout))
    for _ in range(2):
        assert not tools.call("post", {"channel": scout.name, "body": "hm"}).is_error
    assert scout.said() == ["hm", "hm"]


def test_an_attempt_that_was_taken_over_neither_posts_nor_reads(scout: Agent) -> None:
    scout.ask()
    stale = toolbox(scout, begin(scout))
    begin(scout, take_over=True)
    for name, arguments in ARGUMENTS.items():
        result = stale.call(name, arguments)
        assert result.is_error
        assert "over" in result.text
    assert scout.said("general") == []


def test_a_server_that_is_away_is_an_error_and_no_crash() -> None:
    result = Toolbox(Client("unix:/run/no/such.sock"), turn_of()).call("whoami", {})
    assert result.is_error
    assert "no colony at" in result.text
