"""Channels, who is in the private ones, and who watches them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import (
    Boolean,
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
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from colony import errors, schema
from server.models.base import Key, Timestamp, metadata
from server.models.user import users
from server.prepared import Prepared

MAX_OPENED = 100  # by one user within a day, administrators apart: nobody takes a channel away again, and all are listed

channels = Table(
    "channels",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("topic", String(500), nullable=False, server_default=""),
    Column("last_seq", Key, nullable=False, server_default="0"),
    Column("agent_streak", Integer, nullable=False, server_default="0"),  # agents' messages since an ape last spoke
    Column("created_at", Timestamp, nullable=False),
    Column("is_private", Boolean, nullable=False, server_default=false()),  # for its members alone, and for ever
    Column("opened_by", Key),  # NULL: nobody who is bounded in that
    Index("ix_channels_opened_by", "opened_by", "created_at"),
)

members = Table(
    "members",
    metadata,
    Column("channel_id", Key, ForeignKey("channels.id"), primary_key=True),  # a private one
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Column("added_by", Key, ForeignKey("users.id"), nullable=False),
    Column("added_at", Timestamp, nullable=False),
    Index("ix_members_user_id", "user_id"),
)

watches = Table(
    "watches",
    metadata,
    Column("channel_id", Key, ForeignKey("channels.id"), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Index("ix_watches_user_id", "user_id"),
)


class Place(NamedTuple):
    """Where a new message stands."""

    channel_id: int
    seq: int
    streak: int  # of agents' messages, this one included
    is_private: bool


def seen_by(viewer: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a row of `channels` is there for the viewer, a user's id; NULL sees all.

    Whatever tells of a channel asks this, or `find`, `sees` or `next_place`.
    """
    membership = select(members.c.user_id).where(members.c.channel_id == channels.c.id, members.c.user_id == viewer)
    return or_(channels.c.is_private.is_(False), viewer.is_(None), membership.correlate(channels).exists())


def viewer(viewer_id: int | None) -> ColumnElement[int]:
    """The viewer's id within a statement."""
    return literal(viewer_id, Key)


_viewer = bindparam("viewer", type_=Key)
_streak = channels.c.agent_streak
_NEXT_SEQ = Prepared(
    update(channels)
    .where(channels.c.name == bindparam("channel"))
    .values(
        last_seq=channels.c.last_seq + 1,
        agent_streak=case({"ape": literal(0), "agent": _streak + 1}, value=bindparam("author_kind", type_=String), else_=_streak),
    )
    .returning(channels.c.id, channels.c.last_seq, channels.c.agent_streak, channels.c.is_private)
)

_named = select(channels).where(channels.c.name == bindparam("name"))
_FIND = Prepared(_named.where(seen_by(_viewer)))
_HOLD = Prepared(_named.with_for_update(key_share=True))
_IS_MEMBER = Prepared(select(members.c.user_id).where(members.c.channel_id == bindparam("channel"), members.c.user_id == _viewer))
_NAME = Prepared(select(channels.c.name).where(channels.c.id == bindparam("id")))


def find(connection: Connection, name: str, viewer_id: int | None) -> Row[tuple[object, ...]]:
    """The channel, if it is there for the viewer; None sees all. Raises `NotFound`."""
    row = _FIND.first(connection, {"name": name, "viewer": viewer_id})
    if row is None:
        raise errors.NotFound(f"no channel {name}")
    return row


def hold(connection: Connection, name: str, viewer_id: int | None) -> Row[tuple[object, ...]]:
    """The channel, in which nothing is said and whose members stay who they are until the transaction ends. Raises `NotFound`."""
    _HOLD.first(connection, {"name": name})
    return find(connection, name, viewer_id)  # only now: whoever held it before may have changed who is in it


def sees(connection: Connection, channel_id: int, viewer_id: int | None) -> bool:
    """Whether a private channel is there for the viewer; None sees all."""
    return viewer_id is None or is_member(connection, channel_id, viewer_id)


def is_member(connection: Connection, channel_id: int, user_id: int) -> bool:
    return _IS_MEMBER.first(connection, {"channel": channel_id, "viewer": user_id}) is not None


def insiders(connection: Connection, channel_id: int, usernames: Collection[str]) -> set[str]:
    """Those of the names whose users are members of the private channel."""
    query = select(users.c.username).join(members, members.c.user_id == users.c.id)
    return set(connection.execute(query.where(members.c.channel_id == channel_id, users.c.username.in_(usernames))).scalars())


def is_private(connection: Connection, channel_id: int | None) -> bool:
    return bool(connection.execute(select(channels.c.is_private).where(channels.c.id == channel_id)).scalar())


def hidden(connection: Connection, viewer_id: int | None) -> set[str]:
    """The names of the channels that are not there for the viewer; None sees all."""
    return set(connection.execute(select(channels.c.name).where(~seen_by(viewer(viewer_id)))).scalars())


def private_id(connection: Connection, name: str) -> int | None:
    """None where there is none, or a public one."""
    found: int | None = connection.execute(select(channels.c.id).where(channels.c.name == name, channels.c.is_private)).scalar()
    return found


def name_of(connection: Connection, channel_id: int | None) -> str | None:
    """None where there is none."""
    found: str | None = _NAME.scalar(connection, {"id": channel_id})
    return found


def exists(connection: Connection, name: str) -> bool:
    return connection.execute(select(channels.c.id).where(channels.c.name == name)).first() is not None


def listed(connection: Connection, user_id: int, viewer_id: int | None) -> list[schema.Channel]:
    """Those that are there for the viewer, as the user watches them."""
    query = _as_watched_by(user_id).where(seen_by(viewer(viewer_id)))
    return [_to_schema(row) for row in connection.execute(query.order_by(channels.c.name))]


def numbered(connection: Connection) -> list[tuple[str, int]]:
    """The channels by name, each with the number of its last message."""
    query = select(channels.c.name, channels.c.last_seq).order_by(channels.c.name)
    return [(row.name, row.last_seq) for row in connection.execute(query)]


def require_room(connection: Connection, user_id: int, now: datetime) -> None:
    """Raises `LimitReached` for who has opened very many lately."""
    recent = channels.c.opened_by == user_id, channels.c.created_at > now - timedelta(days=1)
    if connection.execute(select(func.count()).select_from(channels).where(*recent)).scalar_one() >= MAX_OPENED:
        raise errors.LimitReached(f"you have opened {MAX_OPENED} channels within a day, as many as one may; administrators open more")


def create(
    connection: Connection, name: str, topic: str, now: datetime, *, creator_id: int | None = None, opener_id: int | None = None
) -> schema.Channel:
    """With a creator it is private, and they are its first member. Raises `Conflict` when the name is taken, by whichever channel."""
    values = {"name": name, "topic": topic, "created_at": now, "is_private": creator_id is not None, "opened_by": opener_id}
    try:
        with connection.begin_nested():
            channel_id = connection.execute(channels.insert().values(values).returning(channels.c.id)).scalar_one()
    except IntegrityError:
        raise errors.Conflict(f"there is a channel {name} already") from None
    if creator_id is not None:
        enter(connection, channel_id, [creator_id], creator_id, now)
    return show(connection, name, user_id=0)


def show(connection: Connection, name: str, user_id: int) -> schema.Channel:
    return _to_schema(connection.execute(_as_watched_by(user_id).where(channels.c.name == name)).one())


def enter(connection: Connection, channel_id: int, user_ids: Collection[int], by_id: int, now: datetime) -> list[int]:
    """Make the users members of the private channel, which must be held; gives those who were none."""
    known = select(members.c.user_id).where(members.c.channel_id == channel_id, members.c.user_id.in_(user_ids))
    new = sorted(set(user_ids) - set(connection.execute(known).scalars()))
    rows = [{"channel_id": channel_id, "user_id": user_id, "added_by": by_id, "added_at": now} for user_id in new]
    if rows:
        connection.execute(members.insert(), rows)
    return new


def leave(connection: Connection, channel_id: int, user_id: int) -> None:
    """The user watches the channel no more, and is no member; a private one must be held."""
    for table in (watches, members):
        connection.execute(delete(table).where(table.c.channel_id == channel_id, table.c.user_id == user_id))


def leave_all(connection: Connection, user_id: int) -> None:
    """The same for all channels. What is being said in private ones is said before, and nothing reaches the user there from now on."""
    mine = select(members.c.channel_id).where(members.c.user_id == user_id)
    held = select(channels.c.id).where(channels.c.id.in_(mine)).order_by(channels.c.id).with_for_update(key_share=True)
    connection.execute(held).all()
    for table in (watches, members):
        connection.execute(delete(table).where(table.c.user_id == user_id))


def watch(connection: Connection, channel: Row[tuple[object, ...]], user_id: int) -> None:
    """A private channel must be held. Raises `Conflict` for who sees it without being a member."""
    if channel.is_private and not is_member(connection, channel.id, user_id):
        raise errors.Conflict(f"{channel.name} is private: only members watch it, and you are none")
    if not _is_watched(connection, channel.id, user_id):
        connection.execute(watches.insert().values(channel_id=channel.id, user_id=user_id))


def unwatch(connection: Connection, channel_id: int, user_id: int) -> None:
    connection.execute(delete(watches).where(watches.c.channel_id == channel_id, watches.c.user_id == user_id))


def next_place(connection: Connection, name: str, author_kind: str, viewer_id: int | None) -> Place:
    """The place of the channel's next message; others wait for theirs, so that no number is left out.

    Raises `NotFound`, also for a private channel that is not there for the viewer; what was changed is then to be undone.
    """
    row = _NEXT_SEQ.first(connection, {"channel": name, "author_kind": author_kind})
    # Only once nobody else holds the channel: they may have taken the viewer out of it.
    if row is None or (row.is_private and not sees(connection, row.id, viewer_id)):
        raise errors.NotFound(f"no channel {name}")
    return Place(*row)


def _is_watched(connection: Connection, channel_id: int, user_id: int) -> bool:
    query = select(func.count()).where(watches.c.channel_id == channel_id, watches.c.user_id == user_id)
    return bool(connection.execute(query).scalar_one())


def _as_watched_by(user_id: int) -> Select[tuple[object, ...]]:
    watched = case((watches.c.user_id.is_not(None), True), else_=False).label("watched")
    joined = channels.outerjoin(watches, and_(watches.c.channel_id == channels.c.id, watches.c.user_id == user_id))
    return select(channels, watched).select_from(joined)


def _to_schema(row: Row[tuple[object, ...]]) -> schema.Channel:
    return schema.Channel(
        id=row.id,
        name=row.name,
        topic=row.topic,
        last_seq=row.last_seq,
        watched=bool(row.watched),
        is_private=row.is_private,
        created_at=row.created_at,
    )
