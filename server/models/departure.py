"""Departures: a person, a gateway or a service leaves the colony. Agents die, which is their host's doing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from colony import errors
from server.models import acl, approval, channel, inbox, ownership, user


def depart(connection: Connection, username: str, now: datetime) -> None:
    """Nobody comes in as this user any more, and nothing reaches them; what they said stays theirs. A repetition changes nothing.

    Raises `NotFound`, and `Conflict` for an agent that is not dead and for the colony itself.
    """
    leaver = user.find(connection, username, lock=True)
    if leaver.username == user.COLONY:
        raise errors.Conflict(f"{username} is the colony itself, which signs its notices")
    if leaver.status == "dead":
        return
    if leaver.kind == "agent":
        raise errors.Conflict(f"{username} is an agent; on its host: sudo colony-agent death {username}")
    channel.leave_all(connection, leaver.id)
    inbox.close_all(connection, leaver.id, "by_hand", now)
    acl.drop_all(connection, leaver.id, username)
    approval.end_all(connection, leaver.id)
    ownership.part(connection, leaver.id)
    user.part_with(connection, leaver.id, now)
