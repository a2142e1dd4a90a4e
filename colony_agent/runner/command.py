"""Any program as a runner: a JSON document on its stdin, the reply on its stdout."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colony import schema
from colony.failures import CRASHED
from colony_agent import process
from colony_agent.runner import Answer, Brief, RunnerFailed, Task
from colony_agent.runner.reply import storable
from colony_agent.sandbox import Sandbox
from colony_agent.settings import Home


@dataclass(frozen=True)
class CommandRunner:
    """Runs the home's `command`; files that it names by their absolute path can be read in the sandbox."""

    home: Home
    sandbox: Sandbox
    tools: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self, task: Task, progress: Callable[[str], None]) -> Answer:
        argv = self._argv()
        output = bytearray()

        def hear(line: bytes) -> None:
            if len(output) <= schema.MAX_BODY_BYTES:  # the rest would be cut off anyway
                output.extend(line + b"\n")

        progress(f"runs {Path(argv[0]).name}")
        named = [Path(word) for word in argv if word.startswith("/") and Path(word).is_file()]
        command = self.sandbox.confine(argv, self.environment, named)
        brief = task.brief()
        usage = schema.Usage(prompt_characters=len(brief.prompt))
        try:
            stdin = document(brief, self.home.agent.repo, task.timeout_seconds, self.tools)
            ended = process.run(command, stdin, hear, task.timeout_seconds, self._stop)
        except RunnerFailed as failed:
            raise RunnerFailed(failed.failure, failed.detail, usage=usage) from failed
        if ended.returncode:
            raise RunnerFailed(CRASHED, ended.last_words, usage=usage)
        return Answer(storable(output.decode(errors="replace")), usage)

    def stop(self) -> None:
        self._stop.set()

    def _argv(self) -> Sequence[str]:
        if not self.home.agent.command:
            raise RunnerFailed(CRASHED, "the runner is `command`, but agent.command names no program")
        program, *arguments = self.home.agent.command
        return [shutil.which(program) or program, *arguments]


def document(brief: Brief, repo: str, timeout_seconds: float, tools: Path | None = None) -> bytes:
    """What the program reads: the prompt, the turn as the server gave it, the clone it works on, its time and its tools.

    `tools` is a unix socket that speaks MCP, one JSON document a line; a call needs no greeting.
    """
    turn = brief.turn.model_dump(mode="json", exclude={"environment", "secrets", "honeytoken"})
    said = {"prompt": brief.prompt, "turn": turn, "repo": repo, "timeout_seconds": timeout_seconds}
    return json.dumps({**said, "tools": str(tools) if tools else None}).encode()
