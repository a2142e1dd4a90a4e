"""Messages that break the claim of whoever shall answer them: after a few tries they are given up, and the agent goes on."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, select, update

from colony import failures
from colony.failures import UNREADABLE
from server.models import inbox, posting, settle
from server.models.channel import channels
from server.models.message import messages
from server.models.posting import Posted
from server.models.user import users

LOOKED_AT = 100  # of the items that are due


def set_back(connection: Connection, agent: Row[tuple[object, ...]], now: datetime) -> list[Posted]:
    """Let the item that breaks a claim wait, or give it up and tell its channel."""
    item = _culprit(connection, agent.id, now)
    if item is None:
        return []
    tries = item.attempts + 1
    gives_up = tries >= failures.MAX_FAILURES
    later = {"not_before": now + timedelta(seconds=failures.backoff_seconds(tries))}
    changes = {"acked_at": now, "outcome": "dead"} if gives_up else later
    connection.execute(update(inbox.inbox).where(inbox.inbox.c.id == item.id).values(attempts=tries, **changes))
    if not gives_up:
        return []
    settle.end_emptied(connection, agent.id, now)
    return _regret(connection, agent, item, now)


def _culprit(connection: Connection, agent_id: int, now: datetime) -> Row[tuple[object, ...]] | None:
    """The first due item that can't be read; if all can, the one that waits longest: it may be something around it."""
    due = inbox.due(connection, agent_id, now, LOOKED_AT)
    return next((item for item in due if not inbox.can_be_read(connection, item.id)), due[0] if due else None)


def _regret(connection: Connection, agent: Row[tuple[object, ...]], item: Row[tuple[object, ...]], now: datetime) -> list[Posted]:
    joined = messages.join(channels, channels.c.id == messages.c.channel_id).join(users, users.c.id == messages.c.author_id)
    query = select(messages.c.seq, channels.c.name, users.c.username, users.c.kind).select_from(joined)
    seq, channel, author, kind = connection.execute(query.where(messages.c.id == item.message_id)).one()
    asker = f"@{author} " if kind == "ape" else ""
    body = f"{asker}{agent.username} could not answer #{seq}: {UNREADABLE.says}. What helps: {UNREADABLE.remedy}."
    return posting.notice(connection, channel, body, f"{item.id}:unreadable", now)
