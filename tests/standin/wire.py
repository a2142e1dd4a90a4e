"""A message as the API writes it: one JSON object, or a stream of server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from tests.standin.replies import Call, Ending, Message

Event = dict[str, Any]


def whole(message: Message, model: str) -> dict[str, Any]:
    """The answer to a request without `stream`."""
    return {
        **_envelope(message, model),
        "content": [_full(block) for block in message.blocks],
        "stop_reason": _stop_reason(message),
        "usage": asdict(message.usage),
    }


def stream(message: Message, model: str) -> bytes:
    """The answer to a request with `stream`; without its end if the message is to be cut off."""
    return b"".join(_encode(event) for event in _events(message, model))


def _events(message: Message, model: str) -> Iterator[Event]:
    yield {"type": "message_start", "message": _envelope(message, model)}
    for index, block in enumerate(message.blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        yield {"type": "content_block_delta", "index": index, "delta": _delta(block)}
        if message.ending is Ending.COMPLETE:
            yield {"type": "content_block_stop", "index": index}
    if message.ending is Ending.COMPLETE:
        delta = {"stop_reason": _stop_reason(message), "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": asdict(message.usage)}
        yield {"type": "message_stop"}


def _encode(event: Event) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _envelope(message: Message, model: str) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": message.model or model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**asdict(message.usage), "output_tokens": 1},
    }


def _stop_reason(message: Message) -> str:
    calls = any(isinstance(block, Call) for block in message.blocks)
    return "tool_use" if calls else "end_turn"


def _full(block: str | Call) -> dict[str, Any]:
    if isinstance(block, Call):
        return {**_empty(block), "input": dict(block.input)}
    return {"type": "text", "text": block}


def _empty(block: str | Call) -> dict[str, Any]:
    if isinstance(block, Call):
        return {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": block.name, "input": {}}
    return {"type": "text", "text": ""}


def _delta(block: str | Call) -> dict[str, Any]:
    if isinstance(block, Call):
        return {"type": "input_json_delta", "partial_json": json.dumps(dict(block.input))}
    return {"type": "text_delta", "text": block}
