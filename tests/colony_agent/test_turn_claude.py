"""Turns that think with Claude Code, against the stand-in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from colony import failures, operations, schema
from colony.config import STATE_FILE
from colony.files import private_folder
from colony_agent import state
from tests.colony_agent.agents import DONE, FAILED, NOTHING, Agent, House, Process, living, wait_for
from tests.colony_agent.cast import running
from tests.standin import Reply, Standin, error, hang, prompt_text, text, tool, tool_result
from tests.standin.claude import claude_binary
from tests.standin.replies import Failure

KEY = "sk-ant-the-standins-secret"


@pytest.fixture
def api() -> Iterator[Standin]:
    with Standin() as api:
        yield api


class Thinker:
    """An agent that thinks with Claude Code."""

    def __init__(self, agent: Agent, api: Standin) -> None:
        self.agent, self.env = agent, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url}
        self.log = agent.home.with_suffix(".log")

    def turn(self) -> int:
        return self.agent.turn(env=self.env).returncode

    def begin(self) -> Process:
        return Process(self.agent.argv("turn"), self.log, self.env)


@pytest.fixture
def thinker(house: House, tmp_path: Path, api: Standin) -> Iterator[Thinker]:
    agent = house.agent(tmp_path, runner="claude", command=[], claude=str(claude_binary()), model="claude-test")
    yield Thinker(agent, api)
    assert not running(str(tmp_path))


def test_claude_remembers_the_channel_and_only_this_one(thinker: Thinker, api: Standin) -> None:
    api.script(text("noted"))
    for channel, body in ((thinker.agent.name, "the code word is juniper"), (thinker.agent.name, "and now?"), ("general", "hello")):
        thinker.agent.ask(body, channel=channel)
        assert thinker.turn() == DONE
    first, second, third = (prompt_text(request) for request in api.requests)
    assert "juniper" in first
    assert "juniper" in second
    assert second.count("juniper") == 1  # the session has it, the prompt needs not tell it again
    assert "and now?" in second
    assert "juniper" not in third
    assert thinker.agent.said() == ["noted", "noted"]


def test_after_a_restore_a_session_that_has_seen_higher_numbers_is_told_what_was_said(thinker: Thinker, api: Standin) -> None:
    api.script(text("noted"))
    agent = thinker.agent
    agent.ask("hello")
    assert thinker.turn() == DONE
    memory = agent.state
    memory.seen[agent.name] = 1000  # as if the colony had gone back to a backup since
    state.save(agent.home, STATE_FILE, memory)
    agent.house.ann.call(operations.POST, schema.PostMessage(channel=agent.name, body="the code word is willow"))
    agent.ask("and now?")
    assert thinker.turn() == DONE
    assert "willow" in prompt_text(api.requests[-1])
    assert agent.state.seen[agent.name] < 1000


def test_a_lost_session_is_left_for_a_fresh_one_that_is_told_more(thinker: Thinker, api: Standin) -> None:
    api.script(text("noted"))
    thinker.agent.ask("the code word is juniper")
    assert thinker.turn() == DONE
    shutil.rmtree(thinker.agent.home / ".claude" / "projects")
    thinker.agent.ask("and now?")
    assert thinker.turn() == DONE
    assert thinker.agent.said() == ["noted", "noted"]
    assert "and now?" in prompt_text(api.requests[-1])
    assert len(thinker.agent.state.sessions) == 1


def test_a_place_for_the_tools_that_somebody_has_taken_keeps_nobody_from_them(thinker: Thinker, api: Standin, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    folder = private_folder(f"turn {thinker.agent.home}")
    folder.rmdir()
    folder.symlink_to(theirs)
    api.script([tool("mcp__colony__whoami", {}), text("done")])
    try:
        thinker.agent.ask()
        assert thinker.turn() == DONE
        assert list(folder.parent.glob(f"{folder.name}*")) == [folder]  # its own was elsewhere, and is gone
    finally:
        folder.unlink()
    assert json.loads(tool_result(api.requests[-1]))["username"] == thinker.agent.name
    assert list(theirs.iterdir()) == []


def test_claude_posts_with_its_tools_as_the_agent_and_in_its_turn(house: House, thinker: Thinker, api: Standin) -> None:
    api.script([tool("mcp__colony__post", {"channel": "#general", "body": "news for all"}), text("done")])
    thinker.agent.ask()
    assert thinker.turn() == DONE
    turn = thinker.agent.turns()[0]
    posted = next(message for message in thinker.agent.messages("general") if message.author == thinker.agent.name)
    assert (posted.body, posted.turn_id, posted.hops) == ("news for all", turn.id, 1)
    assert json.loads(tool_result(api.requests[1]))["id"] == posted.id
    assert thinker.agent.said() == ["done"]
    assert house.rows("SELECT client_id FROM messages WHERE id = ?", posted.id) == [(f"{turn.id}:1.0",)]
    assert turn.tokens_in > 0
    [attempt] = house.ann.call(operations.TURN, schema.GetTurn(id=turn.id)).attempts
    assert (attempt.tools, attempt.prompt_characters > 100, attempt.cost_usd) == ({"post": 1}, True, turn.cost_usd)


def test_an_attempt_that_is_repeated_finds_its_own_post(thinker: Thinker, api: Standin) -> None:
    api.script([tool("mcp__colony__post", {"channel": thinker.agent.name, "body": "I look into it"}), hang()])
    thinker.agent.ask()
    with thinker.begin() as first:
        api.wait_for(2, 30)
        first.signal(signal.SIGKILL)
        first.wait()
    api.script([tool("mcp__colony__post", {"channel": thinker.agent.name, "body": "I look into it"}), text("done")])
    assert thinker.turn() == DONE
    assert thinker.agent.said() == ["I look into it", "done"]
    assert "interrupted" in prompt_text(api.requests[2])
    assert "This was posted before the turn was interrupted" in tool_result(api.requests[3])


@pytest.mark.parametrize(
    ("reply", "code", "seconds"),
    [(error(401), "credentials_rejected", 300), (error(429, retry_after_seconds=600), "rate_limited", 60)],
    ids=["401", "429"],
)
def test_trouble_with_the_api_holds_the_agent_and_counts_no_attempt(
    thinker: Thinker, api: Standin, reply: Reply, code: str, seconds: int
) -> None:
    api.script(reply)
    thinker.agent.ask()
    require_held(thinker, code, seconds)
    assert thinker.turn() == NOTHING
    assert thinker.agent.outcomes() == [None]


def test_an_allowance_that_is_used_up_for_days_is_asked_for_again_after_one(thinker: Thinker, api: Standin) -> None:
    del thinker.env["ANTHROPIC_API_KEY"]
    thinker.env["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-standin"
    reset = int(time.time()) + 400_000  # more than the colony waits at once
    headers = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": str(reset)}
    api.script(Failure(429, "rate_limit_error", "used up", headers))
    thinker.agent.ask()
    require_held(thinker, "rate_limited", 86_400)


def require_held(thinker: Thinker, code: str, seconds: int) -> None:
    before = datetime.now(UTC)
    assert thinker.turn() == FAILED
    turn, seen = thinker.agent.turns()[0], thinker.agent.seen
    assert (turn.state, turn.error_code, turn.failures) == ("resting", code, 0)
    assert seen.status == "healthy"
    assert failures.FAILURES[code].says in seen.status_note
    assert seen.held_until
    assert timedelta(seconds=seconds - 5) < seen.held_until - before < timedelta(seconds=seconds + 900)


def test_an_api_out_of_reach_holds_the_agent(thinker: Thinker) -> None:
    thinker.env["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:1"
    thinker.agent.ask()
    assert thinker.turn() == FAILED
    turn = thinker.agent.turns()[0]
    assert (turn.state, turn.error_code, turn.failures) == ("resting", "unreachable", 0)
    assert failures.UNREACHABLE.says in thinker.agent.seen.status_note


def test_a_turn_killed_with_its_group_leaves_no_process_and_no_obstacle(thinker: Thinker, api: Standin) -> None:
    api.script(hang())
    thinker.agent.ask()
    with thinker.begin() as turn:
        api.wait_for(1, 30)
        family = turn.family()
        os.killpg(turn.pid, signal.SIGKILL)
        turn.wait()
        wait_for(lambda: not living(family), "end of its processes")
    api.script([tool("mcp__colony__whoami", {}), text("done")])
    assert thinker.turn() == DONE
    assert thinker.agent.said() == ["done"]
    assert json.loads(tool_result(api.requests[-1]))["username"] == thinker.agent.name


def test_no_credential_is_in_a_command_line_and_the_agents_token_nowhere_but_in_its_masked_file(thinker: Thinker, api: Standin) -> None:
    api.script([tool("Bash", {"command": "env; cat .colony.toml; cat .colony-state.json; ls -a"}), text("done", delay_seconds=1)])
    thinker.agent.ask()
    with thinker.begin() as turn:
        api.wait_for(2, 30)
        family = [psutil.Process(turn.pid), *turn.family()]
        lines = [" ".join(process.cmdline()) for process in family]
        inside = [process.environ() for process in family if process.name() == "claude"]
        assert turn.wait() == DONE
        assert inside
        assert not any("COLONY" in name for environ in inside for name in environ)
        log = turn.log()
    secrets = (KEY, thinker.agent.token)
    assert not any(secret in line for line in [*lines, log] for secret in secrets)
    assert thinker.agent.token not in json.dumps([request.body for request in api.requests])
    written = [path for path in thinker.agent.home.rglob("*") if path.is_file() and path.name != ".colony.toml"]
    assert any(path.suffix == ".jsonl" for path in written)
    holders = [path for path in written if thinker.agent.token.encode() in path.read_bytes()]
    assert holders == []
