"""Notices about an agent in #ops, where its owner is called."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row, select

from server.models import channel, posting
from server.models.posting import Posted
from server.models.user import users

OPS = "ops"


def tell(connection: Connection, agent: Row[tuple[object, ...]], text: str, client_id: str, now: datetime) -> list[Posted]:
    """Say it once per client_id; a channel that is missing is opened."""
    if not channel.exists(connection, OPS):
        channel.create(connection, OPS, "How the colony itself is doing", now)
    owner = connection.execute(select(users.c.username).where(users.c.id == agent.owner_id, users.c.kind == "ape")).scalar()
    return posting.notice(connection, OPS, f"@{owner} {text}" if owner else text, client_id, now)
