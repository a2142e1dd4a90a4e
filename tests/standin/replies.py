"""What the stand-in can answer: a message, an error, silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

ERRORS = {  # status: type and usual message; https://docs.anthropic.com/en/api/errors
    400: ("invalid_request_error", "messages: at least one message is required"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is an issue with billing or payment."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


class Ending(Enum):
    """How the connection goes on once everything in the reply was sent."""

    COMPLETE = "complete"
    HANG = "hang"
    DROP = "drop"


@dataclass(frozen=True)
class Usage:
    """Tokens that the reply claims to have cost."""

    input_tokens: int = 10
    output_tokens: int = 5
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


@dataclass(frozen=True)
class Call:
    """One tool that the model wants run."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """A turn of the model: strings are text blocks. Without `model` it names the one asked for."""

    blocks: tuple[str | Call, ...]
    usage: Usage = Usage()
    model: str | None = None
    delay_seconds: float = 0
    ending: Ending = Ending.COMPLETE


@dataclass(frozen=True)
class Failure:
    """An HTTP error in the API's JSON shape."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str]
    delay_seconds: float = 0

    @property
    def body(self) -> dict[str, Any]:
        return {"type": "error", "error": {"type": self.type, "message": self.message}}


@dataclass(frozen=True)
class Silence:
    """Not even a status line: the connection hangs, or is dropped."""

    ending: Ending
    delay_seconds: float = 0


Reply = Message | Failure | Silence


def text(
    body: str,
    *,
    usage: Usage = Usage(),
    model: str | None = None,
    delay_seconds: float = 0,
) -> Message:
    """Plain text, which ends the turn."""
    return Message((body,), usage, model, delay_seconds)


def tool(
    name: str,
    input: Mapping[str, Any],
    *,
    say: str = "",
    usage: Usage = Usage(),
) -> Message:
    """One tool call, after the words of `say`, if any."""
    blocks = (say, Call(name, input)) if say else (Call(name, input),)
    return Message(blocks, usage)


def tools(*calls: tuple[str, Mapping[str, Any]]) -> Message:
    """Several tool calls in one reply, each a name and its input."""
    return Message(tuple(Call(*call) for call in calls))


def error(status: int, message: str | None = None, *, retry_after_seconds: int | None = None) -> Failure:
    """An HTTP error with the API's usual words; `retry_after_seconds` becomes the header of that name."""
    kind, words = ERRORS.get(status, ("api_error", "the stand-in was told to fail"))
    headers = {} if retry_after_seconds is None else {"retry-after": str(retry_after_seconds)}
    return Failure(status, kind, message or words, headers)


def prompt_too_long() -> Failure:
    """The 400 that the API answers when the conversation exceeds the model's context."""
    return error(400, "prompt is too long: 210000 tokens > 200000 maximum")


def hang(after: str | None = None) -> Reply:
    """Silence until the caller or the stand-in leaves: before the headers, or mid-stream `after` some text."""
    return _cut(after, Ending.HANG)


def drop(after: str | None = None) -> Reply:
    """A lost connection: before the headers, or mid-stream `after` some text."""
    return _cut(after, Ending.DROP)


def _cut(after: str | None, ending: Ending) -> Reply:
    return Silence(ending) if after is None else Message((after,), ending=ending)
