"""Messages, and reading a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    select,
)

from colony import errors, schema
from server.models import channel as channel_model
from server.models.base import Key, Timestamp, metadata
from server.models.channel import channels
from server.models.user import users
from server.prepared import Prepared

MAX_ANSWER_CHARACTERS = 2**20  # of messages in one answer: 500 of the longest would take 32 MB, and several times that while it is written
T = TypeVar("T")

messages = Table(
    "messages",
    metadata,
    Column("id", Key, primary_key=True),
    Column("channel_id", Key, ForeignKey("channels.id"), nullable=False),
    Column("seq", Key, nullable=False),
    Column("author_id", Key, ForeignKey("users.id"), nullable=False),
    Column("body", Text, nullable=False),
    Column("type", String(31), nullable=False),
    Column("reply_to", Key, ForeignKey("messages.id")),
    Column("turn_id", Key, ForeignKey("turns.id")),
    Column("hops", Integer, nullable=False, server_default="0"),
    Column("client_id", String(200)),
    Column("created_at", Timestamp, nullable=False),
    UniqueConstraint("channel_id", "seq", name="uq_messages_channel_seq"),
    UniqueConstraint("author_id", "client_id", name="uq_messages_author_client"),
    Index("ix_messages_turn_id", "turn_id"),
)


def selected() -> Select[tuple[object, ...]]:
    """Messages with the names of their channel and author, as `to_schema` wants them."""
    names = channels.c.name.label("channel"), users.c.username.label("author"), users.c.kind.label("author_kind")
    joined = messages.join(channels, channels.c.id == messages.c.channel_id).join(users, users.c.id == messages.c.author_id)
    return select(messages, *names).select_from(joined)


_in_channel = selected().where(messages.c.channel_id == bindparam("channel")).limit(bindparam("limit", type_=Key))
_NEWEST = Prepared(_in_channel.order_by(messages.c.seq.desc()))
_SINCE = Prepared(_in_channel.where(messages.c.seq > bindparam("since")).order_by(messages.c.seq))
_BEFORE = Prepared(_in_channel.where(messages.c.seq < bindparam("before")).order_by(messages.c.seq.desc()))
_is_seen = channel_model.seen_by(bindparam("viewer", type_=Key))
_OF_TURN = Prepared(selected().where(messages.c.turn_id == bindparam("turn"), _is_seen).order_by(messages.c.id))
_with_privacy = selected().add_columns(channels.c.is_private)
_BY_CLIENT_ID = Prepared(_with_privacy.where(messages.c.author_id == bindparam("author"), messages.c.client_id == bindparam("client_id")))
_CHANNEL_NAME = Prepared(
    select(channels.c.name).join(messages, messages.c.channel_id == channels.c.id).where(messages.c.id == bindparam("id"), _is_seen)
)
_CHANNEL = Prepared(select(messages.c.channel_id).where(messages.c.id == bindparam("id")))


def read(connection: Connection, channel: Row[tuple[object, ...]], since: int | None, limit: int) -> schema.Messages:
    """The channel's messages after `since`, or its newest, as far as one answer has room for them; oldest first."""
    values = {"channel": channel.id, "since": since, "limit": limit}
    rows = (_NEWEST if since is None else _SINCE).rows(connection, values)
    found = fitting([to_schema(row) for row in rows], lambda message: message)
    return schema.Messages(channel=channel.name, last_seq=channel.last_seq, messages=list(found[::-1] if since is None else found))


def fitting(found: Sequence[T], said: Callable[[T], schema.Message | None]) -> Sequence[T]:
    """The first of these, as far as one answer has room for what is said in them; one at least."""
    left = MAX_ANSWER_CHARACTERS
    for place, each in enumerate(found):
        message = said(each)
        left -= len(message.body) if message else 0
        if left < 0:
            return found[: max(place, 1)]
    return found


def find(connection: Connection, message_id: int, viewer_id: int | None) -> Row[tuple[object, ...]]:
    """As `to_schema` wants it, and whether its channel is private; None sees all. Raises `NotFound`."""
    is_seen = channel_model.seen_by(channel_model.viewer(viewer_id))
    row = connection.execute(_with_privacy.where(messages.c.id == message_id, is_seen)).first()
    if row is None:
        raise errors.NotFound(f"no message {message_id}")
    return row


def channel_of(connection: Connection, message_id: int, viewer_id: int) -> str | None:
    """The name of the channel that it stands in; None for no message that is there for the viewer."""
    found: str | None = _CHANNEL_NAME.scalar(connection, {"id": message_id, "viewer": viewer_id})
    return found


def around(connection: Connection, channel_id: int, items: list[schema.Message], limit: int) -> list[schema.Message]:
    """What else was said in the channel up to the last of the messages, the newest `limit` of it, oldest first."""
    theirs = {message.seq for message in items}
    found = _BEFORE.rows(connection, {"channel": channel_id, "before": max(theirs), "limit": limit + len(theirs)})
    return [to_schema(row) for row in [row for row in found if row.seq not in theirs][:limit][::-1]]


def of_turn(connection: Connection, turn_id: int, viewer_id: int | None) -> list[schema.Message]:
    """What the turn's agent posted in it where the viewer sees it, oldest first; None sees all."""
    return [to_schema(row) for row in _OF_TURN.rows(connection, {"turn": turn_id, "viewer": viewer_id})]


def openings(connection: Connection, condition: ColumnElement[bool], max_characters: int, viewer_id: int | None) -> list[schema.Message]:
    """The messages that the viewer sees (None: all), oldest first, with bodies that are cut where they are longer."""
    body = func.substr(messages.c.body, 1, max_characters + 1)
    is_seen = channel_model.seen_by(channel_model.viewer(viewer_id))
    columns = [body.label("body") if column is messages.c.body else column for column in selected().selected_columns]
    rows = connection.execute(selected().with_only_columns(*columns).where(condition, is_seen).order_by(messages.c.id))
    return [_cut(to_schema(row), max_characters) for row in rows]


def to_schema(row: Row[tuple[object, ...]]) -> schema.Message:
    """The message; where the database holds what is none, one that says so: it must not hide those around it."""
    fields = row._asdict()  # what a message does not have is ignored
    try:
        return schema.Message(**fields)
    except ValidationError:
        unreadable = {"author_kind": "service", "type": "unreadable", "body": "(the colony can't read this message)"}
        kept = {name: fields[name] for name in ("id", "channel", "author", "seq", "created_at")}
        return schema.Message(**kept | unreadable)


def _cut(message: schema.Message, max_characters: int) -> schema.Message:
    body = message.body
    return message if len(body) <= max_characters else message.model_copy(update={"body": f"{body[:max_characters]}…"})


def by_client_id(connection: Connection, author_id: int, client_id: str) -> Row[tuple[object, ...]] | None:
    """As `to_schema` wants it, and whether its channel is private."""
    return _BY_CLIENT_ID.first(connection, {"author": author_id, "client_id": client_id})


def is_in(connection: Connection, message_id: int, channel_id: int) -> bool:
    return bool(_CHANNEL.scalar(connection, {"id": message_id}) == channel_id)
