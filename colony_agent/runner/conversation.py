"""One run of Claude Code, heard to its end: the answer, or what went wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from colony.failures import CRASHED, PROMPT_TOO_LONG, RATE_LIMITED, TOOLS_FAILED, UNREACHABLE
from colony_agent.process import Exit
from colony_agent.runner import TOOL_SERVER, Answer, RunnerFailed, Session, SessionUnusable, claude_stream
from colony_agent.runner.claude_stream import BY_STATUS, Event, Stream
from colony_agent.runner.reply import storable

MAX_PAUSE_SECONDS = 10  # a longer one is spent outside of the turn, where it holds nothing


@dataclass(frozen=True)
class Conversation:
    """`id` is the session's, `resumed` what was known of it before. `tell` is told, in a few words, what goes on."""

    id: str
    resumed: Session | None
    has_tools: bool
    tell: Callable[[str], None]
    _stream: Stream = field(default_factory=Stream, init=False)

    def begin(self, prompt: str) -> None:
        """Note what it is told."""
        self._stream.prompt_characters = len(prompt)

    def hear(self, line: bytes) -> None:
        """Take in a line of its output. Raises `RunnerFailed` when waiting for the end is of no use."""
        if event := claude_stream.parse(line):
            self._stream.add(event)
            self._check(event)
            for news in claude_stream.progress(event):
                self.tell(news)

    def answer(self, ended: Exit) -> Answer:
        """What it said at last. Raises `RunnerFailed`, and `SessionUnusable` where a fresh session may do better."""
        result = self._result(ended)
        return Answer(storable(result.result), self._stream.usage(self._before_usd), Session(self.id, result.total_cost_usd))

    def failed(self, failed: RunnerFailed) -> RunnerFailed:
        """The failure, with what was spent until then and the session that the next attempt can resume."""
        total_usd = self._stream.result.total_cost_usd if self._stream.result else self._before_usd
        kept = Session(self.id, total_usd) if self._stream.init else self.resumed
        if failed.failure is PROMPT_TOO_LONG:
            kept = None
        return RunnerFailed(failed.failure, failed.detail, failed.retry_in_seconds, self._stream.usage(self._before_usd), kept)

    @property
    def _before_usd(self) -> float:
        return self.resumed.total_cost_usd if self.resumed else 0.0

    def _check(self, event: Event) -> None:
        if event is self._stream.init and self.has_tools and (status := self._stream.status_of(TOOL_SERVER)) != "connected":
            raise RunnerFailed(TOOLS_FAILED, f"its colony tools did not start: {status}")
        if event.retry_delay_ms > MAX_PAUSE_SECONDS * 1000:
            failure = BY_STATUS.get(event.error_status or 0, UNREACHABLE)
            raise RunnerFailed(failure, retry_in_seconds=math.ceil(event.retry_delay_ms / 1000))

    def _result(self, ended: Exit) -> Event:
        stream = self._stream
        result = stream.result
        if self.resumed and not stream.init and ended.returncode == 1:
            raise SessionUnusable(ended.last_words)
        if result is None:
            raise RunnerFailed(CRASHED, ended.last_words)
        if result.is_error:
            failure = stream.failure()
            detail = result.result or "; ".join(result.errors) or ended.last_words
            if self.resumed and failure is PROMPT_TOO_LONG and not stream.tools:
                raise SessionUnusable(detail)
            raise RunnerFailed(failure, detail, stream.resets_in_seconds(time.time()) if failure is RATE_LIMITED else None)
        return result
