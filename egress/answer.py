"""What the model's answer has used, read while it passes by: from a whole answer, or event by event from a stream."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from egress.prices import Tokens
from egress.question import BYTES_PER_TOKEN

MAX_HELD_BYTES = 8 * 2**20  # of a whole answer, or of one event
EVENT = b"data:"
TELLING = b'"message_start"', b'"message_delta"', b'"error"'


class Answer:
    """Takes in the bytes of an answer. `tokens` is what is known by now; None: nothing, or the answer could not be read.

    `is_told`: its end has said how much it was, or that it failed. Before, it may be much more: not all that is thought is shown.
    """

    def __init__(self, *, is_streamed: bool) -> None:
        self._is_streamed = is_streamed
        self._held = bytearray()
        self._usage: dict[str, Any] = {}
        self._came = 0  # bytes of events
        self._is_lost = False
        self.is_told = False

    @property
    def tokens(self) -> Tokens | None:
        return None if self._is_lost or not self._usage else _tokens(self._usage)

    def hear(self, data: bytes) -> None:
        if self._is_lost:
            return
        self._held += data
        if self._is_streamed:
            *lines, rest = self._held.split(b"\n")
            self._held = bytearray(rest)
            for line in lines:
                self._hear_line(bytes(line))
        if len(self._held) > MAX_HELD_BYTES:
            self._is_lost = True
            self._held.clear()

    def end(self) -> None:
        """All of it has come."""
        if self._is_streamed:
            self.hear(b"\n")
        elif message := _object(bytes(self._held)):
            self._end_with(message.get("usage"))
        self._held.clear()

    def _hear_line(self, line: bytes) -> None:
        if not line.startswith(EVENT):
            return
        if not any(name in line for name in TELLING):
            self._came += len(line)
            return
        event = _object(line.removeprefix(EVENT))
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                self._take({**_dict(_dict(message).get("usage")), "output_tokens": 0})
            case "message_delta" if _dict(event.get("delta")).get("stop_reason"):
                self._end_with(event.get("usage"))
            case "error" if not self.is_told:  # it is no fault of who asked, so that what has come counts and no more
                self._end_with({"output_tokens": self._came // BYTES_PER_TOKEN})
            case _:  # a text that mentions one
                self._came += len(line)

    def _end_with(self, usage: Any) -> None:
        self._take(usage)
        self.is_told = isinstance(_dict(usage).get("output_tokens"), int)

    def _take(self, usage: Any) -> None:
        """What is told later counts: a stream adds up by itself."""
        self._usage.update({name: value for name, value in _dict(usage).items() if value is not None or name not in self._usage})


def _tokens(usage: dict[str, Any]) -> Tokens:
    """Where a compaction took some, only the iterations tell of it; what the API's own tools took, only the sum of all."""
    iterations = usage.get("iterations")
    each = [_counted(_dict(found)) for found in iterations] if isinstance(iterations, list) else []
    whole = vars(_counted(usage))
    return Tokens(**{name: max(count, sum(getattr(found, name) for found in each)) for name, count in whole.items()})


def _counted(usage: dict[str, Any]) -> Tokens:
    written = _count(usage.get("cache_creation_input_tokens"))
    by_hour = _count(_dict(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    return Tokens(
        input=_count(usage.get("input_tokens")),
        output=_count(usage.get("output_tokens")),
        cache_read=_count(usage.get("cache_read_input_tokens")),
        cache_write=max(0, written - by_hour),
        cache_write_hour=by_hour,
        web_searches=_count(_dict(usage.get("server_tool_use")).get("web_search_requests")),
    )


def _object(text: bytes) -> dict[str, Any]:
    try:
        return _dict(from_json(text))
    except ValueError:
        return {}


def _dict(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _count(found: Any) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= 10**9 else 0
