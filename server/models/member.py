"""Members of private channels: they come when they are invited, and go by themselves or are taken out."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, Row, Select, select

from colony import errors, schema
from server.models import channel, posting, settle, turn, user
from server.models.channel import members
from server.models.posting import Author, Posted
from server.models.user import users

_adders = users.alias("adders")


def listed(connection: Connection, room: Row[tuple[object, ...]]) -> schema.Members:
    """In the order in which they came."""
    rows = connection.execute(_selected(room.id).order_by(members.c.added_at, users.c.username))
    return schema.Members(channel=room.name, members=[_to_schema(row) for row in rows])


def invite(connection: Connection, name: str, usernames: Collection[str], by: Author, now: datetime) -> list[Posted]:
    """Make these users members of the private channel, which is told of those who were none; `by` must see it.

    Raises `NotFound` for who is nobody here, and `Conflict` for who has left the colony.
    """
    guests = [user.find(connection, username, lock=True) for username in sorted(set(usernames))]
    for guest in guests:
        if guest.status == "dead":
            raise errors.Conflict(f"{guest.username} has left the colony")
    room = channel.hold(connection, name, by.viewer_id)
    new = channel.enter(connection, room.id, [guest.id for guest in guests], by.id, now)
    invited = ", ".join(f"@{guest.username}" for guest in guests if guest.id in new)
    return _tell(connection, room, f"{by.username} has invited {invited}.", now) if new else []


def part(connection: Connection, name: str, username: str, by: Author, now: datetime) -> tuple[schema.Member, int, list[Posted]]:
    """Take a user out of the private channel, by themselves or by another, who must see it; gives the membership, and the user's id.

    What waits for them there is closed, a turn of theirs there ends, and the channel is told. Raises `NotFound`.
    """
    leaver = user.find(connection, username, lock=True)
    turn.running(connection, leaver.id)  # locked before the channel, as whoever ends a turn does
    room = channel.hold(connection, name, by.viewer_id)
    row = connection.execute(_selected(room.id).where(users.c.id == leaver.id)).first()
    if row is None:
        raise errors.NotFound(f"{username} is no member of {name}")
    parted = _to_schema(row)
    channel.leave(connection, room.id, leaver.id)
    deed = f"{username} has left." if by.id == leaver.id else f"{by.username} has removed {username}."
    return parted, leaver.id, _tell(connection, room, deed, now) + settle.withdraw(connection, leaver, room, now)


def _tell(connection: Connection, room: Row[tuple[object, ...]], text: str, now: datetime) -> list[Posted]:
    return posting.notice(connection, room.name, text, f"members:{room.id}:{room.last_seq}", now)  # which is held: nobody else has this


def _selected(channel_id: int) -> Select[tuple[object, ...]]:
    joined = members.join(users, users.c.id == members.c.user_id).join(_adders, _adders.c.id == members.c.added_by)
    names = users.c.username, users.c.kind, _adders.c.username.label("added_by")
    return select(*names, members.c.added_at).select_from(joined).where(members.c.channel_id == channel_id)


def _to_schema(row: Row[tuple[object, ...]]) -> schema.Member:
    return schema.Member(username=row.username, kind=row.kind, added_by=row.added_by, added_at=row.added_at)
