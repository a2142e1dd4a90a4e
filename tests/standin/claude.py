"""Running the real Claude Code CLI against a stand-in."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.standin.api import Standin

REPOSITORY = Path(__file__).parents[2]
ENDED_WITHIN = 30  # seconds


@dataclass(frozen=True)
class Run:
    """What the CLI left behind. `events` are the objects of its stream-json."""

    returncode: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The result event; LookupError when the CLI ended without one."""
        results = [event for event in self.events if event["type"] == "result"]
        if not results:
            raise LookupError(f"no result event; rc {self.returncode}, stderr: {self.stderr}")
        return results[-1]


def claude_binary() -> Path:
    """The pinned CLI, installed beside this Python or bundled in `claude-agent-sdk`; FileNotFoundError if absent."""
    candidates = [Path(sys.prefix, "bin/claude"), REPOSITORY / ".venv/bin/claude", *_bundled()]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FileNotFoundError("no Claude Code CLI; `pip install claude-agent-sdk` brings one")


def environment(api: Standin, home: Path, **more: str) -> dict[str, str]:
    """A minimal environment: one request for each reply, no retries, nothing inherited."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "sk-ant-standin",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "ENABLE_TOOL_SEARCH": "false",
        "IS_SANDBOX": "1",  # root may bypass permissions only in a sandbox
        **more,
    }


def start_claude(binary: Path, api: Standin, home: Path, prompt: str, *options: str, **more: str) -> subprocess.Popen[str]:
    """Start one turn that prints stream-json; `more` joins its environment."""
    with tempfile.TemporaryFile("w+") as stdin:  # an argument is bounded and must not begin with a dash
        stdin.write(prompt)
        stdin.seek(0)
        return subprocess.Popen(
            [binary, "-p", "--output-format", "stream-json", "--verbose", *options],
            cwd=home,
            env=environment(api, home, **more),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def finish_claude(process: subprocess.Popen[str]) -> Run:
    """Wait for what `start_claude` started and read what it printed; killed when it takes too long."""
    try:
        stdout, stderr = process.communicate(timeout=ENDED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    events = [json.loads(line) for line in stdout.splitlines()]
    return Run(process.returncode, events, stderr)


def run_claude(binary: Path, api: Standin, home: Path, prompt: str, *options: str, **more: str) -> Run:
    """One whole turn: `start_claude`, then `finish_claude`."""
    return finish_claude(start_claude(binary, api, home, prompt, *options, **more))


def _bundled() -> Sequence[Path]:
    spec = importlib.util.find_spec("claude_agent_sdk")
    return [Path(spec.origin).parent / "_bundled/claude"] if spec and spec.origin else []
