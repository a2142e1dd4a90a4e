"""The stand-in, seen by plain HTTP and by the real Claude Code CLI."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.standin import (
    Reply,
    Request,
    Standin,
    Usage,
    drop,
    error,
    hang,
    prompt_text,
    prompt_too_long,
    sequence,
    text,
    tool,
    tool_result,
    tool_results,
    tools,
)
from tests.standin.claude import claude_binary, finish_claude, run_claude, start_claude

BYPASS = "--dangerously-skip-permissions"


@pytest.fixture(scope="session")
def claude() -> Path:
    return claude_binary()  # a missing CLI is a failure: these tests are the only sight of it


@pytest.fixture
def api() -> Iterator[Standin]:
    with Standin() as api:
        yield api


def test_without_a_script_it_repeats_the_last_words_of_the_user(api: Standin) -> None:
    reply = ask(api, "first", "hello")
    assert reply["content"] == [{"type": "text", "text": "echo: hello"}]
    assert reply["stop_reason"] == "end_turn"


def test_replies_are_used_in_order_and_the_last_one_repeats(api: Standin) -> None:
    api.script([text("one"), text("two")])
    assert [said(ask(api, "go")) for _ in range(3)] == ["one", "two", "two"]


def test_a_single_reply_answers_for_ever(api: Standin) -> None:
    api.script(text("yes"))
    assert [said(ask(api, "go")) for _ in range(2)] == ["yes", "yes"]


def test_a_function_chooses_the_reply_by_the_request(api: Standin) -> None:
    scout = sequence([text("scout one"), text("scout two")])
    api.script(lambda request: scout(request) if "scout" in prompt_text(request) else text("who?"))
    assert [said(ask(api, name)) for name in ("scout", "eve", "scout")] == [
        "scout one",
        "who?",
        "scout two",
    ]


def test_a_script_without_replies_is_refused(api: Standin) -> None:
    with pytest.raises(ValueError, match="at least one reply"):
        api.script([])


def test_usage_and_model_are_as_told(api: Standin) -> None:
    api.script(text("dear", usage=Usage(150_000, 7, 3, 2), model="claude-other"))
    reply = ask(api, "go")
    assert reply["model"] == "claude-other"
    assert reply["usage"] == {
        "input_tokens": 150_000,
        "output_tokens": 7,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 2,
    }


def test_a_stream_says_the_same_as_the_whole_reply(api: Standin) -> None:
    api.script(tool("Bash", {"command": "ls"}, say="Let me look.", usage=Usage(11, 12)))
    whole, streamed = ask(api, "go"), joined(ask_stream(api, "go"))
    assert streamed == ["Let me look.", {"command": "ls"}]
    assert [whole["content"][0]["text"], whole["content"][1]["input"]] == streamed
    assert whole["stop_reason"] == "tool_use"


def test_an_error_has_the_shape_of_the_api(api: Standin) -> None:
    api.script(error(429, "slow down", retry_after_seconds=7))
    response = post(api, conversation("go"))
    assert (response.status, response.getheader("retry-after")) == (429, "7")
    assert json.loads(response.read()) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow down"},
    }


def test_a_delay_comes_before_the_reply(api: Standin) -> None:
    api.script(text("late", delay_seconds=0.1))
    started_at = time.monotonic()
    assert said(ask(api, "go")) == "late"
    assert time.monotonic() - started_at >= 0.1


def test_a_connection_can_be_dropped_before_the_headers(api: Standin) -> None:
    api.script(drop())
    with pytest.raises(ConnectionError):
        ask(api, "go")


def test_a_connection_can_be_dropped_mid_stream(api: Standin) -> None:
    api.script(drop(after="half a"))
    response = post(api, conversation("go", stream=True))
    with pytest.raises(http.client.IncompleteRead) as cut:
        response.read()
    assert b"half a" in cut.value.partial
    assert b"message_stop" not in cut.value.partial


def test_one_connection_serves_many_requests(api: Standin) -> None:
    connection = connect(api)
    for _ in range(3):
        connection.request("POST", "/v1/messages", json.dumps(conversation("go")))
        assert connection.getresponse().read()
    assert len(api.requests) == 3


def test_requests_beside_the_model_are_answered_and_kept_apart(api: Standin) -> None:
    connection = connect(api)
    statuses = []
    for method, path in [
        ("HEAD", "/"),
        ("GET", "/v1/models"),
        ("POST", "/v1/messages/count_tokens?beta=true"),
        ("POST", "/api/event_logging"),
    ]:
        connection.request(method, path, json.dumps(conversation("go")))
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    assert statuses == [200, 200, 200, 404]
    assert len(api.other_requests) == 4
    assert api.requests == []


def test_a_system_message_amid_the_conversation_is_not_the_users(api: Standin) -> None:
    body = conversation("hello")
    body["messages"].append({"role": "system", "content": [{"type": "text", "text": "reminder"}]})
    post(api, body).read()
    assert prompt_text(api.requests[0]) == "hello"


def test_tool_results_are_found_in_every_shape() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": "plain"},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "list"}]},
        {"type": "tool_result", "tool_use_id": "c"},
    ]
    request = Request("POST", "/", {}, {"messages": [{"role": "user", "content": results}]}, 0)
    assert tool_results(request) == ["plain", "list", ""]
    with pytest.raises(LookupError, match="no tool_result"):
        tool_result(Request("POST", "/", {}, conversation("go"), 0))


@pytest.mark.parametrize("reply", [hang(), hang(after="half"), text("", delay_seconds=60)])
def test_closing_ends_waiting_handlers_and_leaves_no_thread(reply: Reply) -> None:
    before = threading.active_count()
    with Standin() as api:
        api.script(reply)
        idle, waiting = connect(api), connect(api)
        idle.connect()
        waiting.request("POST", "/v1/messages", json.dumps(conversation("go", stream=True)))
        api.wait_for(1)
        closing_at = time.monotonic()
    assert time.monotonic() - closing_at < 5
    assert threading.active_count() == before


def test_a_hanging_handler_ends_when_its_caller_leaves(api: Standin) -> None:
    before = threading.active_count()
    api.script(hang())
    connection = connect(api)
    connection.request("POST", "/v1/messages", json.dumps(conversation("go")))
    api.wait_for(1)
    connection.close()
    wait_until(lambda: threading.active_count() == before)


def test_it_runs_by_hand() -> None:
    command = [sys.executable, "-m", "tests.standin", "--reply", "fixed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        host = process.stdout.readline().strip().removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=5)
        connection.request("POST", "/v1/messages", json.dumps(conversation("go")))
        assert said(json.loads(connection.getresponse().read())) == "fixed"
        process.terminate()
        assert process.wait(5) == 0


def test_claude_says_the_reply(claude: Path, api: Standin, tmp_path: Path) -> None:
    api.script(text("hello ann", usage=Usage(11, 3)))
    run = run_claude(claude, api, tmp_path, "hello")
    assert (run.returncode, run.stderr, run.result["result"]) == (0, "", "hello ann")
    assert run.result["usage"]["input_tokens"] == 11
    assert "hello" in prompt_text(api.requests[0])
    assert (len(api.requests), api.other_requests) == (1, [])


def test_claude_runs_the_tools_it_is_told_to(claude: Path, api: Standin, tmp_path: Path) -> None:
    api.script(
        [
            tool("Bash", {"command": "echo $((6 * 7))"}, say="Counting."),
            tools(("Bash", {"command": "echo a > a"}), ("Bash", {"command": "echo b; exit 3"})),
            text("done"),
        ]
    )
    run = run_claude(claude, api, tmp_path, "count", BYPASS)
    assert run.result["result"] == "done"
    assert tool_result(api.requests[1]) == "42"
    assert tool_results(api.requests[2])[1:] == ["(Bash completed with no output)", "Exit code 3\nb"]
    assert (tmp_path / "a").read_text() == "a\n"


@pytest.mark.parametrize(
    ("reply", "status", "reason", "words"),
    [
        (error(401), 401, "api_error", "Invalid API key"),
        (error(403), 403, "api_error", "Failed to authenticate"),
        (error(413), 413, "image_error", "Request too large"),
        (error(429), 429, "api_error", "Request rejected (429)"),
        (error(500), 500, "api_error", "API Error: 500"),
        (error(529), 529, "api_error", "API Error: 529"),
        (prompt_too_long(), 400, "prompt_too_long", "Prompt is too long"),
        (drop(), None, "api_error", "Connection dropped"),
        (drop(after="half"), None, "api_error", "was lost"),
    ],
)
def test_claude_reports_a_failure(
    claude: Path,
    api: Standin,
    tmp_path: Path,
    reply: Reply,
    status: int | None,
    reason: str,
    words: str,
) -> None:
    api.script(reply)
    run = run_claude(claude, api, tmp_path, "hello")
    assert run.returncode == 1
    assert (run.result["is_error"], run.result["api_error_status"]) == (True, status)
    assert run.result["terminal_reason"] == reason
    assert words in run.result["result"]
    assert len(api.requests) == 1


@pytest.mark.parametrize("reply", [hang(), hang(after="half")], ids=["headers", "stream"])
def test_claude_hangs_until_it_is_killed(claude: Path, api: Standin, tmp_path: Path, reply: Reply) -> None:
    api.script(reply)
    process = start_claude(claude, api, tmp_path, "hello")
    api.wait_for(1)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(signal.SIGTERM)
    run = finish_claude(process)
    assert run.returncode == 128 + signal.SIGTERM
    assert [event["type"] for event in run.events] == ["system"]


def ask(api: Standin, *words: str) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(post(api, conversation(*words)).read())
    return reply


def ask_stream(api: Standin, *words: str) -> list[dict[str, Any]]:
    body = post(api, conversation(*words, stream=True)).read().decode()
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]


def post(api: Standin, body: dict[str, Any]) -> http.client.HTTPResponse:
    connection = connect(api)
    connection.request("POST", "/v1/messages?beta=true", json.dumps(body))
    return connection.getresponse()


def connect(api: Standin) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=5)


def conversation(*words: str, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": word} for word in words]
    return {"model": "claude-any", "stream": stream, "messages": messages}


def said(reply: dict[str, Any]) -> str:
    return "".join(block["text"] for block in reply["content"])


def joined(events: list[dict[str, Any]]) -> list[Any]:
    """The content of a stream, block by block."""
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return [delta.get("text") or json.loads(delta["partial_json"]) for delta in deltas]


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 5) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
