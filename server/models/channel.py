"""Channels, and who watches them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from colony import errors, schema
from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

channels = Table(
    "channels",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("topic", String(500), nullable=False, server_default=""),
    Column("last_seq", Key, nullable=False, server_default="0"),
    Column("agent_streak", Integer, nullable=False, server_default="0"),  # agents' messages since an ape last spoke
    Column("created_at", Timestamp, nullable=False),
)

watches = Table(
    "watches",
    metadata,
    Column("channel_id", Key, ForeignKey("channels.id"), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Index("ix_watches_user_id", "user_id"),
)


_streak = channels.c.agent_streak
_NEXT_SEQ = Prepared(
    update(channels)
    .where(channels.c.name == bindparam("channel"))
    .values(
        last_seq=channels.c.last_seq + 1,
        agent_streak=case({"ape": literal(0), "agent": _streak + 1}, value=bindparam("author_kind", type_=String), else_=_streak),
    )
    .returning(channels.c.id, channels.c.last_seq, channels.c.agent_streak)
)


_FIND = Prepared(select(channels).where(channels.c.name == bindparam("name")))
_NAME = Prepared(select(channels.c.name).where(channels.c.id == bindparam("id")))


def find(connection: Connection, name: str) -> Row[tuple[object, ...]]:
    """Raises `NotFound`."""
    row = _FIND.first(connection, {"name": name})
    if row is None:
        raise errors.NotFound(f"no channel {name}")
    return row


def name_of(connection: Connection, channel_id: int | None) -> str | None:
    """None where there is none."""
    found: str | None = _NAME.scalar(connection, {"id": channel_id})
    return found


def exists(connection: Connection, name: str) -> bool:
    return connection.execute(select(channels.c.id).where(channels.c.name == name)).first() is not None


def listed(connection: Connection, user_id: int) -> list[schema.Channel]:
    return [_to_schema(row) for row in connection.execute(_seen_by(user_id).order_by(channels.c.name))]


def numbered(connection: Connection) -> list[tuple[str, int]]:
    """The channels by name, each with the number of its last message."""
    query = select(channels.c.name, channels.c.last_seq).order_by(channels.c.name)
    return [(row.name, row.last_seq) for row in connection.execute(query)]


def create(connection: Connection, name: str, topic: str, now: datetime) -> schema.Channel:
    """Raises `Conflict` when the name is taken."""
    try:
        with connection.begin_nested():
            connection.execute(channels.insert().values(name=name, topic=topic, created_at=now))
    except IntegrityError:
        raise errors.Conflict(f"there is a channel {name} already") from None
    return show(connection, name, user_id=0)


def show(connection: Connection, name: str, user_id: int) -> schema.Channel:
    return _to_schema(connection.execute(_seen_by(user_id).where(channels.c.name == name)).one())


def watch(connection: Connection, name: str, user_id: int) -> None:
    channel = find(connection, name)
    if not _is_watched(connection, channel.id, user_id):
        connection.execute(watches.insert().values(channel_id=channel.id, user_id=user_id))


def unwatch(connection: Connection, name: str, user_id: int) -> None:
    channel = find(connection, name)
    connection.execute(delete(watches).where(watches.c.channel_id == channel.id, watches.c.user_id == user_id))


def unwatch_all(connection: Connection, user_id: int) -> None:
    connection.execute(delete(watches).where(watches.c.user_id == user_id))


def next_seq(connection: Connection, name: str, author_kind: str) -> tuple[int, int, int]:
    """The channel's id, its next number and the streak that includes it; others wait, so that no number is left out.

    Raises `NotFound`.
    """
    rows = _NEXT_SEQ.rows(connection, {"channel": name, "author_kind": author_kind})
    if not rows:
        raise errors.NotFound(f"no channel {name}")
    channel_id, seq, streak = rows[0]
    return channel_id, seq, streak


def _is_watched(connection: Connection, channel_id: int, user_id: int) -> bool:
    query = select(func.count()).where(watches.c.channel_id == channel_id, watches.c.user_id == user_id)
    return bool(connection.execute(query).scalar_one())


def _seen_by(user_id: int) -> Select[tuple[object, ...]]:
    watched = case((watches.c.user_id.is_not(None), True), else_=False).label("watched")
    joined = channels.outerjoin(watches, and_(watches.c.channel_id == channels.c.id, watches.c.user_id == user_id))
    return select(channels, watched).select_from(joined)


def _to_schema(row: Row[tuple[object, ...]]) -> schema.Channel:
    return schema.Channel(
        id=row.id, name=row.name, topic=row.topic, last_seq=row.last_seq, watched=bool(row.watched), created_at=row.created_at
    )
