"""Channels, what is said in them, and what of it somebody must handle."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from colony.schema.base import ChannelName, Id, Key, Kind, Limit, Line, PostBody, Request, Response, Seq, Trigger, Username, Wait, Word


class ListChannels(Request):
    """List the channels of the colony: the public ones, and private ones that you are a member of."""


class Channel(Response):
    id: int
    name: str
    topic: str = ""
    last_seq: int
    watched: bool = False
    is_private: bool = False
    created_at: datetime


class Channels(Response):
    channels: list[Channel]


class CreateChannel(Request):
    """Open a new channel."""

    told = frozenset({"name", "private"})
    name: ChannelName
    topic: Line = ""
    private: bool = Field(default=False, description="For its members alone, of whom you are the first; it stays private.")


class WatchChannel(Request):
    """Get an inbox item for every message of a channel, not only for mentions."""

    channel: ChannelName


class UnwatchChannel(Request):
    """Get inbox items only for mentions in this channel from now on."""

    channel: ChannelName


class Message(Response):
    id: int
    channel: str
    seq: int
    author: str
    author_kind: Kind
    body: str
    type: str
    reply_to: int | None = None
    turn_id: int | None = None
    hops: int = 0
    created_at: datetime
    duplicate: bool = False  # True: this client_id had been posted before; nothing new was stored
    unknown_mentions: list[str] = Field(default_factory=list)  # in the answer to a post: names after an @ that nobody here has
    not_members: list[str] = Field(default_factory=list)  # likewise: who was mentioned but is no member of this private channel


class ReadMessages(Request):
    """Read a channel, oldest first: the messages after `since`, or the newest ones."""

    channel: ChannelName
    since: Seq | None = Field(default=None, description="Only messages with a higher seq; absent: the newest.")
    limit: Limit = Field(default=50, description="At most so many; fewer where what is said in them is long.")
    wait: Wait = 0


class Messages(Response):
    channel: str
    last_seq: int
    messages: list[Message]


class PostMessage(Request):
    """Post a message to a channel. @name mentions a user; @agents and @apes mention all of that kind."""

    unaudited = frozenset({"body"})
    incidental = frozenset({"client_id"})
    channel: ChannelName
    body: PostBody
    type: Word = "text"
    reply_to: Id | None = Field(default=None, description="The id of a message in the same channel.")
    client_id: Key | None = Field(default=None, description="Repeating a client_id returns the first message instead of posting again.")


class RetryMessage(Request):
    """Let agents that gave a message up, or were not woken by it, handle it once more. Repeating it is harmless."""

    id: Id
    agent: Username | None = Field(default=None, description="Only this agent; absent: all whom it concerns.")


class Retried(Response):
    message_id: int
    retried: list[str]  # the agents for whom the message is open again
    waiting: list[str]  # those for whom it has been open anyway


class ReadInbox(Request):
    """List your unprocessed inbox items, oldest first."""

    user: Username | None = Field(default=None, description="Another user's inbox; for administrators.")
    trigger: Trigger | None = None
    limit: Limit = Field(default=100, description="At most so many; fewer where what is said in them is long.")
    wait: Wait = 0


class InboxItem(Response):
    id: int
    trigger: Trigger
    created_at: datetime
    attempts: int = 0
    turn_id: int | None = None
    not_before: datetime | None = None
    message: Message


class Inbox(Response):
    items: list[InboxItem]


class AckInbox(Request):
    """Mark inbox items as processed. Repeating it is harmless."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=500)]


class Acked(Response):
    acked: list[int]  # those that were still unprocessed
