"""Claude Code as a runner: one `claude -p` per turn, in the agent's sandbox."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colony.failures import CRASHED
from colony_agent import credentials, process
from colony_agent.runner import TOOL_SERVER, Answer, RunnerFailed, Session, SessionUnusable, Task
from colony_agent.sandbox import Command, Sandbox, gate
from colony_agent.settings import Home

TOOLS = "Bash,Edit,Read,Task,WebFetch,Write"  # each costs tokens in every request
PASSED_ON = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN")
HELD_BY_THE_GATE = "held-by-the-gate"  # without any key it would not even ask
GATED = json.dumps({"skipWebFetchPreflight": True})  # it would ask api.anthropic.com about each host; the gate knows which are allowed
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
    environment: Mapping[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self, task: Task, progress: Callable[[str], None]) -> Answer:
        """A session that can't go on, because it is unknown here or too long by now, is left for a fresh one, once."""
        deadline = time.monotonic() + task.timeout_seconds
        if task.session:
            try:
                return self._attempt(task, task.session, deadline, progress)
            except SessionUnusable as unusable:
                progress(f"starts afresh: {unusable}")
        return self._attempt(task, None, deadline, progress)

    def stop(self) -> None:
        self._stop.set()

    def _attempt(self, task: Task, session: Session | None, deadline: float, tell: Callable[[str], None]) -> Answer:
        id = session.id if session else str(uuid.uuid4())
        conversation = None
        try:
            budget = ["--max-budget-usd", f"{task.budget_usd:.6f}"] if task.budget_usd else []
            with process.started(self._command(["--resume" if session else "--session-id", id, *budget])) as claude:
                # Imported only now: it takes as long as Claude Code to start, so both do it at once.
                from colony_agent.runner.conversation import Conversation

                conversation = Conversation(id, session, has_tools=self.tool_server is not None, tell=tell)
                prompt = task.brief().to(session)
                conversation.begin(prompt)
                claude.serve(_as_message(prompt), conversation.hear, deadline - time.monotonic(), self._stop)
            return conversation.answer(claude.ended())
        except RunnerFailed as failed:
            raise (conversation.failed(failed) if conversation else failed.within(session)) from failed

    def _command(self, own: list[str]) -> Command:
        claude = self._binary()
        env = {**self.environment, **self.bounds, **self._access()}
        return self.sandbox.confine([str(claude), *self._options(), *own], env, [claude])

    def _access(self) -> Mapping[str, str]:
        """Its way to the model's API. The gate adds the key: what is in here, the agent can read."""
        if self.sandbox.gate:
            return {"ANTHROPIC_BASE_URL": gate.URL, "ANTHROPIC_API_KEY": HELD_BY_THE_GATE}
        return credentials.given(PASSED_ON, self.environ)

    def _options(self) -> list[str]:
        server = {"type": "stdio", "command": self.tool_server[0], "args": list(self.tool_server[1:])} if self.tool_server else None
        servers = {TOOL_SERVER: {**server, "alwaysLoad": True}} if server else {}
        return [
            # As a stream, too, because plain text is waited for before the rest of the start, and for 3 s only.
            *("-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"),
            *("--strict-mcp-config", "--mcp-config", json.dumps({"mcpServers": servers})),
            *("--tools", TOOLS, "--allowedTools", f"{TOOLS},mcp__{TOOL_SERVER}", "--disable-slash-commands"),
            "--dangerously-skip-permissions",  # the sandbox is the boundary
            *(("--settings", GATED) if self.sandbox.gate else ()),
            *(("--model", self.home.agent.model) if self.home.agent.model else ()),
        ]

    def _binary(self) -> Path:
        """The real file: a link to it would lead nowhere in the sandbox."""
        name = self.home.agent.claude
        found = shutil.which(name) or shutil.which(Path(sys.executable).parent / name)
        if not found:
            raise RunnerFailed(CRASHED, f"there is no {name}; install Claude Code, or set agent.claude to its path")
        return Path(found).resolve()


def _as_message(prompt: str) -> bytes:
    return json.dumps({"type": "user", "message": {"role": "user", "content": prompt}}).encode() + b"\n"
