"""What thinks: takes a prompt, gives a reply. `claude` is Claude Code, `command` is any program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from colony.failures import Failure

if TYPE_CHECKING:
    from colony import schema

TOOL_SERVER = "colony"  # what a runner calls the colony's tools


@dataclass(frozen=True)
class Session:
    """A conversation that the runner can resume."""

    id: str
    total_cost_usd: float = 0.0  # what the runner has reported for it so far; a turn's cost is the difference


@dataclass(frozen=True)
class Brief:
    """What a runner's program is told."""

    prompt: str
    turn: schema.Turn
    afresh: str = ""  # the prompt for a session that knows nothing yet, where that differs

    def to(self, session: Session | None) -> str:
        return self.prompt if session else self.afresh or self.prompt


@dataclass(frozen=True)
class Task:
    """One turn's work for a runner. It takes longer to write the brief than to start the program: so that comes first."""

    brief: Callable[[], Brief]
    session: Session | None = None  # absent: start a fresh one
    timeout_seconds: float = 600.0
    budget_usd: float = 0.0  # the most it may cost; 0: no limit


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
        self.usage = usage  # None: nothing
        self.session = session

    def within(self, session: Session | None) -> RunnerFailed:
        """The same failure of a conversation that didn't go on."""
        return RunnerFailed(self.failure, self.detail, self.retry_in_seconds, self.usage, session)


class SessionUnusable(Exception):
    """The conversation can't be resumed, and nothing has been done yet."""


class Runner(Protocol):
    def run(self, task: Task, progress: Callable[[str], None]) -> Answer:
        """Think. `progress` is told, in a few words, what goes on. Raises `RunnerFailed` and nothing else that is expected."""

    def stop(self) -> None:
        """End a running `run` from another thread, with its whole process tree; it then raises `RunnerFailed(STOPPED)`."""
