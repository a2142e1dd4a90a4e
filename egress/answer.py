"""What the model's answer has used, read while it passes by: from a whole answer, or event by event from a stream."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from egress.prices import Tokens
from egress.question import BYTES_PER_TOKEN

MAX_HELD_BYTES = 8 * 2**20  # of a whole answer, or of one event
EVENT = b"data:"
STARTS, GOES_ON = b'"message_start"', b'"message_delta"'


class Answer:
    """Takes in the bytes of an answer. `tokens` is what is known by now; None: nothing, or the answer could not be read.

    Until a stream says how much it was, output is estimated from what has come.
    """

    def __init__(self, *, is_streamed: bool) -> None:
        self._is_streamed = is_streamed
        self._held = bytearray()
        self._usage: dict[str, Any] = {}
        self._came = 0  # bytes of events
        self._is_lost = False

    @property
    def tokens(self) -> Tokens | None:
        return None if self._is_lost or not self._usage else _tokens(self._usage, self._came // BYTES_PER_TOKEN)

    @property
    def tokens_out(self) -> int:
        """At most so many, for all that is known by now."""
        found = self.tokens
        return found.output if found else self._came // BYTES_PER_TOKEN

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
            self._take(message.get("usage"))
        self._held.clear()

    def _hear_line(self, line: bytes) -> None:
        if not line.startswith(EVENT):
            return
        if STARTS not in line and GOES_ON not in line:
            self._came += len(line)
            return
        event = _object(line.removeprefix(EVENT))
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                self._take({**_dict(_dict(message).get("usage")), "output_tokens": None})
            case "message_delta":
                self._take(event.get("usage"))
            case _:  # a text that mentions one
                self._came += len(line)

    def _take(self, usage: Any) -> None:
        """What is told later counts: a stream adds up by itself."""
        self._usage.update({name: value for name, value in _dict(usage).items() if value is not None or name not in self._usage})


def _tokens(usage: dict[str, Any], estimated_out: int) -> Tokens:
    written, by_hour = _count(usage.get("cache_creation_input_tokens")), _count(
        _dict(usage.get("cache_creation")).get("ephemeral_1h_input_tokens")
    )
    told = usage.get("output_tokens")
    return Tokens(
        input=_count(usage.get("input_tokens")),
        output=estimated_out if told is None else _count(told),
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
