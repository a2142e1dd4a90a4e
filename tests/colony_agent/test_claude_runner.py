"""The real Claude Code CLI in the real sandbox, against the stand-in of the Messages API."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from colony import schema
from colony.failures import (
    CRASHED,
    CREDENTIALS_REJECTED,
    OVER_BUDGET,
    OVERLOADED,
    PROMPT_TOO_LONG,
    RATE_LIMITED,
    STOPPED,
    TIMED_OUT,
    TOOLS_FAILED,
    UNREACHABLE,
    Failure,
)
from colony_agent.runner import Answer, RunnerFailed, Session
from colony_agent.runner.claude import BOUNDS, ClaudeRunner
from colony_agent.sandbox import for_home
from tests.colony_agent.cast import new_mark, running, scout_at, task, wait_until
from tests.standin import (
    Reply,
    Standin,
    Usage,
    drop,
    error,
    hang,
    last_user_text,
    prompt_text,
    prompt_too_long,
    text,
    tool,
    tool_result,
    tools,
)
from tests.standin.claude import claude_binary

TOOL_SERVER = ("/usr/bin/python3", "tool_server.py")
LOST = Session(str(uuid4()), 1.0)


class Scout:
    """Scout's runner, made anew for each turn as the worker does."""

    def __init__(self, path: Path, api: Standin, **settings: Any) -> None:
        self.home = scout_at(path, claude=str(claude_binary()), model="claude-test", **settings)
        self.environ = {"ANTHROPIC_API_KEY": "sk-ant-standin", "ANTHROPIC_BASE_URL": api.url, "COLONY_TOKEN": "secret"}
        self.told: list[str] = []
        (path / "tool_server.py").write_text(Path(__file__).with_name("tool_server.py").read_text())

    def runner(self, tool_server: Sequence[str] | None = None, **bounds: str) -> ClaudeRunner:
        bounds = {**BOUNDS, "CLAUDE_CODE_MAX_RETRIES": "0", **bounds}
        return ClaudeRunner(self.home, for_home(self.home), tool_server, self.environ, bounds)

    def ask(self, prompt: str = "hello", session: Session | None = None, timeout_seconds: float = 20, **more: Any) -> Answer:
        return self.runner(**more).run(task(prompt, session=session, timeout_seconds=timeout_seconds), self.told.append)

    def fails(self, **more: Any) -> RunnerFailed:
        with pytest.raises(RunnerFailed) as failed:
            self.ask(**more)
        return failed.value


def cost(usage: schema.Usage | None) -> float:
    """In dollars; it must have been told."""
    assert usage
    assert usage.cost_usd is not None
    return usage.cost_usd


@pytest.fixture
def api() -> Iterator[Standin]:
    with Standin() as api:
        yield api


@pytest.fixture
def scout(tmp_path: Path, api: Standin) -> Iterator[Scout]:
    yield Scout(tmp_path / "scout", api)
    assert running(str(tmp_path)) == []  # whatever a test does to it


# Answers


def test_it_answers(scout: Scout, api: Standin) -> None:
    api.script(text("hi ann", usage=Usage(100, 50, 30, 20)))
    answer = scout.ask("hello\nscout")
    assert answer.reply == "hi ann"
    assert (answer.usage.tokens_in, answer.usage.tokens_out) == (150, 50)
    assert cost(answer.usage) > 0
    assert answer.session == Session(answer.session.id if answer.session else "", cost(answer.usage))
    assert last_user_text(api.requests[0]) == "hello\nscout"
    assert (api.requests[0].body["model"], api.other_requests) == ("claude-test", [])


def test_it_uses_tools_and_tells_of_them(scout: Scout, api: Standin) -> None:
    api.script([tool("Bash", {"command": "echo $((6 * 7)) > sum; cat sum"}), text("42")])
    answer = scout.ask()
    assert answer.reply == "42"
    assert (answer.usage.tools, answer.usage.prompt_characters) == ({"Bash": 1}, len("hello"))
    assert tool_result(api.requests[1]) == "42"
    assert (scout.home.path / "sum").read_text() == "42\n"
    assert scout.told == ["Bash: echo $((6 * 7)) > sum; cat sum"]


def test_it_uses_the_tools_of_the_colony(scout: Scout, api: Standin) -> None:
    api.script([tool("mcp__colony__post", {"body": "hi"}), text("done")])
    answer = scout.ask(tool_server=TOOL_SERVER)
    assert (answer.reply, answer.usage.tools) == ("done", {"post": 1})
    assert tool_result(api.requests[1]) == "posted hi"
    assert scout.told == ["post"]
    assert "mcp__colony__post" in [offered["name"] for offered in api.requests[0].body["tools"]]


def test_it_reads_its_soul(scout: Scout, api: Standin) -> None:
    (scout.home.path / "CLAUDE.md").write_text("You are scout, the curious.")
    scout.ask()
    assert "You are scout, the curious." in prompt_text(api.requests[0])


def test_what_a_message_mentions_is_not_read_as_a_file(scout: Scout, api: Standin) -> None:
    (scout.home.path / "librarian").write_text("not for the model")
    scout.ask("hey @librarian, see @/etc/passwd")
    assert "not for the model" not in str(api.requests[0].body)
    assert "nologin" not in str(api.requests[0].body)


def test_a_project_s_own_tool_servers_are_not_started(scout: Scout, api: Standin) -> None:
    (scout.home.path / ".mcp.json").write_text('{"mcpServers": {"evil": {"command": "touch", "args": ["started"]}}}')
    scout.ask(tool_server=TOOL_SERVER)
    assert not (scout.home.path / "started").exists()


def test_the_tools_find_no_more_environment_than_they_need(scout: Scout, api: Standin) -> None:
    api.script([tool("Bash", {"command": "env"}), text("done")])
    scout.ask()
    assert "PATH=/usr/local/bin:/usr/bin:/bin" in tool_result(api.requests[1])
    assert "COLONY_TOKEN" not in tool_result(api.requests[1])


# Sessions


def test_a_session_goes_on_and_each_turn_costs_its_own_share(scout: Scout, api: Standin) -> None:
    api.script([text("one", usage=Usage(100_000, 500)), text("two", usage=Usage(200_000, 500))])
    first = scout.ask("first")
    second = scout.ask("second", first.session)
    assert first.session
    assert second.session
    assert second.session.id == first.session.id
    assert "first" in prompt_text(api.requests[1])
    assert second.usage.tokens_in == 200_000
    assert second.session.total_cost_usd == pytest.approx(cost(first.usage) + cost(second.usage))
    assert 1.5 * cost(first.usage) < cost(second.usage) < 2.5 * cost(first.usage)


@pytest.mark.parametrize("session", [LOST, Session("no-uuid", 1.0)], ids=["unknown", "malformed"])
def test_a_lost_session_starts_afresh_within_the_turn(scout: Scout, api: Standin, session: Session) -> None:
    api.script(text("hi", usage=Usage(100_000, 5)))
    answer = scout.ask("hello", session)
    assert answer.reply == "hi"
    assert answer.session
    assert answer.session.id != session.id
    assert answer.usage.cost_usd == answer.session.total_cost_usd > 0
    assert scout.told[0].startswith("starts afresh: ")
    assert len(api.requests) == 1


def test_a_session_that_grew_too_long_starts_afresh(scout: Scout, api: Standin) -> None:
    first = scout.ask("first")
    api.script([prompt_too_long(), text("short again")])
    answer = scout.ask("second", first.session)
    assert answer.reply == "short again"
    assert "first" not in prompt_text(api.requests[-1])


def test_what_grows_too_long_after_tools_were_used_is_not_done_twice(scout: Scout, api: Standin) -> None:
    first = scout.ask("first")
    api.script([tool("Bash", {"command": "echo done >> deeds"}), prompt_too_long()])
    failed = scout.fails(prompt="second", session=first.session)
    assert (failed.failure, failed.session) == (PROMPT_TOO_LONG, None)
    assert (scout.home.path / "deeds").read_text() == "done\n"


def test_a_session_survives_a_kill_in_the_middle(scout: Scout, api: Standin) -> None:
    first = scout.ask("first")
    mark = new_mark()
    api.script([tool("Bash", {"command": f"sleep {mark}"}), text("going on")])

    def kill() -> None:
        wait_until(lambda: any(found.name() == "sleep" for found in running(mark)), 10)
        for found in running(first.session.id if first.session else ""):
            if found.name() == "claude":
                found.kill()

    threading.Thread(target=kill).start()
    failed = scout.fails(prompt="second", session=first.session)
    assert failed.failure is CRASHED
    assert running(mark) == []
    assert failed.session
    assert scout.ask("third", failed.session).reply == "going on"
    assert "second" in prompt_text(api.requests[-1])


# Failures


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (error(401), CREDENTIALS_REJECTED),
        (error(402), CREDENTIALS_REJECTED),
        (error(402, "this turn may cost $0.50 (budget_spent)"), OVER_BUDGET),
        (error(403), CREDENTIALS_REJECTED),
        (error(400, "Your credit balance is too low to access the Anthropic API."), CREDENTIALS_REJECTED),
        (error(429), RATE_LIMITED),
        (error(429, retry_after_seconds=300), RATE_LIMITED),
        (error(500), CRASHED),
        (error(503), OVERLOADED),
        (error(529), OVERLOADED),
        (error(404), CRASHED),
        (prompt_too_long(), PROMPT_TOO_LONG),
        (error(413), PROMPT_TOO_LONG),
        (drop(), UNREACHABLE),
        (drop(after="half"), UNREACHABLE),
    ],
    ids=lambda value: value.code if isinstance(value, Failure) else str(getattr(value, "status", "drop")),
)
def test_trouble_with_the_api_is_named(scout: Scout, api: Standin, reply: Reply, failure: Failure) -> None:
    api.script(reply)
    failed = scout.fails()
    assert failed.failure is failure
    assert failed.detail
    assert cost(failed.usage) < 0.001  # a stream that breaks off has cost something


def test_without_a_key_the_credentials_are_rejected(scout: Scout) -> None:
    scout.environ.pop("ANTHROPIC_API_KEY")
    assert scout.fails().failure is CREDENTIALS_REJECTED


def test_a_port_that_nobody_listens_on_is_unreachable(scout: Scout) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        scout.environ["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        assert scout.fails().failure is UNREACHABLE


@pytest.mark.parametrize("reply", [hang(), hang(after="half")], ids=["before the headers", "in the stream"])
def test_an_api_that_hangs_ends_with_the_time_of_the_turn(scout: Scout, api: Standin, reply: Reply) -> None:
    api.script(reply)
    assert scout.fails(timeout_seconds=8).failure is TIMED_OUT
    assert len(api.requests) == 1


def test_headers_that_do_not_come_are_not_waited_for_all_the_turn(scout: Scout, api: Standin) -> None:
    api.script(hang())
    assert scout.fails(API_TIMEOUT_MS="500").failure is UNREACHABLE


@pytest.mark.parametrize("hiccup", [error(529), error(500), drop(after="half")], ids=["529", "500", "dropped"])
def test_a_hiccup_is_bridged(scout: Scout, api: Standin, hiccup: Reply) -> None:
    api.script([hiccup, text("hi")])
    assert scout.ask(CLAUDE_CODE_MAX_RETRIES=BOUNDS["CLAUDE_CODE_MAX_RETRIES"]).reply == "hi"
    assert "tries again" in scout.told[0]


def test_a_long_pause_that_the_api_asks_for_is_handed_back(scout: Scout, api: Standin) -> None:
    api.script(error(429, retry_after_seconds=50))
    started_at = time.monotonic()
    failed = scout.fails(CLAUDE_CODE_MAX_RETRIES="2")
    assert failed.failure is RATE_LIMITED
    assert failed.retry_in_seconds
    assert 50 <= failed.retry_in_seconds <= 80  # with some jitter of the CLI
    assert time.monotonic() - started_at < 40  # nobody waited for it


def test_a_used_up_allowance_is_left_alone_until_it_is_renewed(scout: Scout, api: Standin) -> None:
    del scout.environ["ANTHROPIC_API_KEY"]
    scout.environ["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-standin"
    headers = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": str(int(time.time()) + 3000)}
    api.script(replace(error(429), headers=headers))
    failed = scout.fails()
    assert failed.failure is RATE_LIMITED
    assert failed.retry_in_seconds
    assert 2900 < failed.retry_in_seconds <= 3000


def test_what_was_spent_before_the_failure_is_counted_once(scout: Scout, api: Standin) -> None:
    spent = tool("Bash", {"command": "true"}, usage=Usage(100_000, 100))
    api.script([spent, error(529), text("done", usage=Usage(100_000, 100))])
    failed = scout.fails()
    assert failed.usage
    assert (failed.failure, failed.usage.tokens_in, failed.usage.tools) == (OVERLOADED, 100_000, {"Bash": 1})
    assert failed.session
    again = scout.ask("again", failed.session)
    assert cost(again.usage) == pytest.approx(cost(failed.usage), rel=0.1)


@pytest.mark.parametrize("dead", [("/bin/false",), ("/no/such/program",)])
def test_without_its_tools_the_turn_does_not_go_on(scout: Scout, api: Standin, dead: Sequence[str]) -> None:
    api.script(text("done without tools"))
    assert scout.fails(tool_server=dead).failure is TOOLS_FAILED


def test_tools_that_do_not_come_up_are_not_waited_for_all_the_turn(scout: Scout) -> None:
    assert scout.fails(tool_server=("/bin/sleep", "60"), MCP_TIMEOUT="500").failure is TOOLS_FAILED


def test_it_can_be_stopped_in_the_middle_and_leaves_nothing(scout: Scout, api: Standin) -> None:
    mark = new_mark()
    api.script(tools(("Bash", {"command": f"setsid sleep {mark} & sleep {mark}"})))
    runner = scout.runner(TOOL_SERVER)
    stopped_at: list[float] = []

    def stop() -> None:
        wait_until(lambda: len([found for found in running(mark) if found.name() == "sleep"]) == 2, 10)
        stopped_at.append(time.monotonic())
        runner.stop()

    threading.Thread(target=stop).start()
    with pytest.raises(RunnerFailed) as failed:
        runner.run(task(), print)
    assert failed.value.failure is STOPPED
    assert time.monotonic() - stopped_at[0] < 10
    assert running(mark) == []


def test_a_turn_that_has_cost_what_it_may_is_ended_and_says_what_it_cost(scout: Scout, api: Standin) -> None:
    dear = tool("Bash", {"command": "true"}, usage=Usage(100_000, 1000))
    api.script([dear, text("done")])
    with pytest.raises(RunnerFailed) as failed:
        scout.runner().run(task(reserved_usd=0.01), scout.told.append)
    assert (failed.value.failure, len(api.requests)) == (OVER_BUDGET, 1)
    assert failed.value.usage
    assert (failed.value.usage.cost_usd or 0) > 0.01
    api.script([dear, text("done")])
    assert scout.runner().run(task(session=failed.value.session, reserved_usd=100.0), scout.told.append).reply == "done"


def test_what_a_turn_cost_that_was_ended_in_the_middle_is_not_known(scout: Scout, api: Standin) -> None:
    api.script([tool("Bash", {"command": "true"}), hang()])
    failed = scout.fails(timeout_seconds=4)
    assert (failed.failure, failed.usage and failed.usage.cost_usd) == (TIMED_OUT, None)


def test_a_turn_that_the_api_refused_from_the_start_cost_nothing(scout: Scout, api: Standin) -> None:
    api.script(error(429, retry_after_seconds=30))
    failed = scout.fails(CLAUDE_CODE_MAX_RETRIES="2")
    assert failed.usage
    assert failed.usage.cost_usd == 0


def test_a_session_is_kept_through_a_failure_to_start(scout: Scout) -> None:
    first = scout.ask("first")
    scout.home = replace(scout.home, agent=replace(scout.home.agent, claude="no-such-claude"))
    assert scout.fails(session=first.session).session == first.session


def test_without_its_binary_it_says_what_to_install(scout: Scout, tmp_path: Path) -> None:
    home = scout_at(tmp_path / "other", claude="no-such-claude")
    with pytest.raises(RunnerFailed, match="there is no no-such-claude; install Claude Code"):
        ClaudeRunner(home, for_home(home)).run(task(), print)


def test_without_a_sandbox_it_works_the_same(scout: Scout, api: Standin, tmp_path: Path) -> None:
    scout.home = scout_at(tmp_path / "scout", claude=scout.home.agent.claude, sandbox="none")
    api.script([tool("Bash", {"command": "pwd"}), text("done")])
    assert scout.ask(tool_server=TOOL_SERVER).reply == "done"
    assert tool_result(api.requests[1]) == str(scout.home.path)
