"""What everybody may know of what happens."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from colony.schema.base import EventKind, Limit, Position, Request, Response, Wait
from colony.schema.conversation import Message


class ListEvents(Request):
    """Show what happened, oldest first: every message, and what else was done. Over HTTP also as a stream of server-sent events."""

    since: Position | None = Field(default=None, description="Only what came after this position, an event's id; absent: the newest.")
    limit: Limit = Field(default=50, description="At most so many; fewer where what is said in them is long.")
    wait: Wait = 0


class Deed(Response):
    """An operation that succeeded; of what it was asked only what concerns everybody."""

    operation: str
    actor: str | None = None
    target: str = ""
    turn_id: int | None = None
    fields: dict[str, Any] = {}


class Event(Response):
    id: str  # the position just after it
    kind: EventKind
    at: datetime
    message: Message | None = None
    deed: Deed | None = None


class Events(Response):
    position: str  # where to go on
    events: list[Event]
