"""What thinks: takes a prompt, gives a reply. `claude` is Claude Code, `command` is any program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from colony import schema
from colony.failures import Failure


@dataclass(frozen=True)
class Session:
    """A conversation that the runner can resume."""

    id: str
    total_cost_usd: float = 0.0  # what the runner has reported for it so far; a turn's cost is the difference


@dataclass(frozen=True)
class Task:
    """One turn's work for a runner."""

    prompt: str
    turn: schema.Turn
    session: Session | None = None  # absent: start a fresh one
    timeout_seconds: float = 600.0
    afresh: str = ""  # the prompt for a session that knows nothing yet, where that differs


@dataclass(frozen=True)
class Answer:
    reply: str
    usage: schema.Usage
    session: Session | None = None


class RunnerFailed(Exception):
    """The runner gave no answer; `failure` says which kind of trouble it was."""

    def __init__(
        self,
        failure: Failure,
        detail: str = "",
        retry_in_seconds: int | None = None,
        usage: schema.Usage | None = None,
        session: Session | None = None,  # the conversation so far, which the next attempt can resume
    ) -> None:
        super().__init__(detail or failure.says)
        self.failure = failure
        self.detail = detail or failure.says
        self.retry_in_seconds = retry_in_seconds
        self.usage = usage or schema.Usage()
        self.session = session


class Runner(Protocol):
    def run(self, task: Task, progress: Callable[[str], None]) -> Answer:
        """Think. `progress` is told, in a few words, what goes on. Raises `RunnerFailed` and nothing else that is expected."""

    def stop(self) -> None:
        """End a running `run` from another thread, with its whole process tree; it then raises `RunnerFailed(STOPPED)`."""
