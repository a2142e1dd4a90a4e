"""What the stand-in was asked, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """One HTTP request. Names of `headers` are in lower case; `at` is `time.monotonic()`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    at: float


def prompt_text(request: Request) -> str:
    """Every text block that came from the user, oldest first, joined by line ends."""
    return "\n".join(_user_texts(request))


def last_user_text(request: Request) -> str:
    """The newest text block of the user, or nothing."""
    return next(reversed(list(_user_texts(request))), "")


def tool_result(request: Request) -> str:
    """The text that the newest tool call returned to the model; LookupError if none did."""
    results = tool_results(request)
    if not results:
        raise LookupError("no tool_result in this request: look at an earlier or later one")
    return results[-1]


def tool_results(request: Request) -> list[str]:
    """The texts of all tool results in the conversation, oldest first."""
    blocks = _user_blocks(request)
    return [_plain(block.get("content")) for block in blocks if block["type"] == "tool_result"]


def _user_texts(request: Request) -> Iterator[str]:
    return (block["text"] for block in _user_blocks(request) if block["type"] == "text")


def _user_blocks(request: Request) -> Iterator[Mapping[str, Any]]:
    for message in request.body.get("messages", ()):
        if message["role"] == "user":
            yield from _blocks(message["content"])


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    """The API takes a bare string for a single text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _plain(content: Any) -> str:
    return "\n".join(block["text"] for block in _blocks(content) if block["type"] == "text")
