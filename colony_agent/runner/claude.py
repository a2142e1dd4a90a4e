"""Claude Code as a runner: one `claude -p` per turn, in the agent's sandbox."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colony.failures import CRASHED, PROMPT_TOO_LONG, RATE_LIMITED, TOOLS_FAILED, UNREACHABLE
from colony_agent import process
from colony_agent.runner import Answer, RunnerFailed, Session, Task, claude_stream
from colony_agent.runner.claude_stream import BY_STATUS, Event, Stream
from colony_agent.runner.reply import storable
from colony_agent.sandbox import Sandbox
from colony_agent.settings import Home

TOOL_SERVER = "colony"
TOOLS = "Bash,Edit,Read,Task,WebFetch,Write"  # each costs tokens in every request
PASSED_ON = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN")
MAX_PAUSE_SECONDS = 10  # a longer one is spent outside of the turn, where it holds nothing
BOUNDS = {
    "CLAUDE_CODE_MAX_RETRIES": "2",  # bridges a hiccup in about 2 s; by default it is 3 minutes
    "API_TIMEOUT_MS": "90000",  # until the headers
    "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "90000",  # within a stream
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "MCP_TIMEOUT": "10000",
    "MCP_TOOL_TIMEOUT": "60000",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",  # else "@memory" in a message is taken for a file to read
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # they would outlive the turn, and print a second result
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # an agent's memory is what it dreams
    "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",
    "ENABLE_TOOL_SEARCH": "false",
    "IS_SANDBOX": "1",  # root may not bypass permissions otherwise
}


@dataclass(frozen=True)
class ClaudeRunner:
    """Runs the home's `claude`. `tool_server` is what starts the colony's tools, inside the sandbox, on stdio."""

    home: Home
    sandbox: Sandbox
    tool_server: Sequence[str] | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    bounds: Mapping[str, str] = field(default_factory=lambda: BOUNDS)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self, task: Task, progress: Callable[[str], None]) -> Answer:
        """A session that can't go on, because it is unknown here or too long by now, is left for a fresh one, once."""
        deadline = time.monotonic() + task.timeout_seconds
        if task.session:
            try:
                return self._attempt(task.prompt, task.session, task.turn.reserved_usd, deadline, progress)
            except _SessionUnusable as unusable:
                progress(f"starts afresh: {unusable}")
        return self._attempt(task.afresh or task.prompt, None, task.turn.reserved_usd, deadline, progress)

    def stop(self) -> None:
        self._stop.set()

    def _attempt(
        self, prompt: str, session: Session | None, budget_usd: float, deadline: float, tell: Callable[[str], None]
    ) -> Answer:
        id = session.id if session else str(uuid.uuid4())
        before_usd = session.total_cost_usd if session else 0.0
        stream = Stream(len(prompt))

        def hear(line: bytes) -> None:
            if event := claude_stream.parse(line):
                stream.add(event)
                self._check(event, stream)
                for news in claude_stream.progress(event):
                    tell(news)

        try:
            budget = ["--max-budget-usd", f"{budget_usd:.6f}"] if budget_usd else []
            ended = self._start(["--resume" if session else "--session-id", id, *budget], prompt, hear, deadline)
            result = _result(stream, ended, is_resumed=session is not None)
        except RunnerFailed as failed:
            total_usd = stream.result.total_cost_usd if stream.result else before_usd
            kept = Session(id, total_usd) if stream.init else session
            if failed.failure is PROMPT_TOO_LONG:
                kept = None
            raise RunnerFailed(failed.failure, failed.detail, failed.retry_in_seconds, stream.usage(before_usd), kept) from failed
        return Answer(storable(result.result), stream.usage(before_usd), Session(id, result.total_cost_usd))

    def _start(self, session: list[str], prompt: str, hear: Callable[[bytes], None], deadline: float) -> process.Exit:
        claude = self._binary()
        env = {**self.bounds, **{name: self.environ[name] for name in PASSED_ON if self.environ.get(name)}}
        command = self.sandbox.confine([str(claude), *self._options(), *session], env, [claude])
        return process.run(command, prompt.encode("utf-8", "replace"), hear, deadline - time.monotonic(), self._stop)

    def _options(self) -> list[str]:
        server = {"type": "stdio", "command": self.tool_server[0], "args": list(self.tool_server[1:])} if self.tool_server else None
        servers = {TOOL_SERVER: {**server, "alwaysLoad": True}} if server else {}
        return [
            *("-p", "--output-format", "stream-json", "--verbose"),
            *("--strict-mcp-config", "--mcp-config", json.dumps({"mcpServers": servers})),
            *("--tools", TOOLS, "--allowedTools", f"{TOOLS},mcp__{TOOL_SERVER}", "--disable-slash-commands"),
            "--dangerously-skip-permissions",  # the sandbox is the boundary
            *(("--model", self.home.agent.model) if self.home.agent.model else ()),
        ]

    def _check(self, event: Event, stream: Stream) -> None:
        if event is stream.init and self.tool_server and (status := stream.status_of(TOOL_SERVER)) != "connected":
            raise RunnerFailed(TOOLS_FAILED, f"its colony tools did not start: {status}")
        if event.retry_delay_ms > MAX_PAUSE_SECONDS * 1000:
            failure = BY_STATUS.get(event.error_status or 0, UNREACHABLE)
            raise RunnerFailed(failure, retry_in_seconds=math.ceil(event.retry_delay_ms / 1000))

    def _binary(self) -> Path:
        """The real file: a link to it would lead nowhere in the sandbox."""
        name = self.home.agent.claude
        found = shutil.which(name) or shutil.which(Path(sys.executable).parent / name)
        if not found:
            raise RunnerFailed(CRASHED, f"there is no {name}; install Claude Code, or set agent.claude to its path")
        return Path(found).resolve()


class _SessionUnusable(Exception):
    """The conversation can't be resumed, and nothing has been done yet."""


def _result(stream: Stream, ended: process.Exit, is_resumed: bool) -> Event:
    """The CLI's good end. Raises `RunnerFailed` for any other, `_SessionUnusable` where a fresh session may do better."""
    result = stream.result
    if is_resumed and not stream.init and ended.returncode == 1:
        raise _SessionUnusable(ended.last_words)
    if result is None:
        raise RunnerFailed(CRASHED, ended.last_words)
    if result.is_error:
        failure = stream.failure()
        detail = result.result or "; ".join(result.errors) or ended.last_words
        if is_resumed and failure is PROMPT_TOO_LONG and not stream.tools:
            raise _SessionUnusable(detail)
        raise RunnerFailed(failure, detail, stream.resets_in_seconds(time.time()) if failure is RATE_LIMITED else None)
    return result
