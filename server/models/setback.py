"""When the clock was set back: what waits for a time that the clock before has told would wait for too long."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from server.models.audit import audit
from server.models.inbox import inbox
from server.models.turn import turns
from server.models.user import users

TOLERANCE = timedelta(seconds=10)  # several servers' clocks may differ by that
LEASE = timedelta(seconds=60)  # whoever lives renews within 25 s, however long a lease it asks for


def has_happened(connection: Connection, now: datetime) -> bool:
    """Whether something is known to have been done at a time that has yet to come."""
    heard = connection.execute(select(func.max(users.c.last_seen_at))).scalar()
    done = connection.execute(select(audit.c.at).order_by(audit.c.id.desc()).limit(1)).scalar()
    return any(at > now + TOLERANCE for at in (heard, done) if at)


def undo(connection: Connection, now: datetime) -> None:
    """Let everything that waits for a time look again now, and wait anew if it still must. A repetition changes nothing."""
    connection.execute(update(users).where(users.c.held_until > now).values(held_until=now))
    connection.execute(update(users).where(users.c.last_seen_at > now).values(last_seen_at=now))
    connection.execute(update(inbox).where(inbox.c.acked_at.is_(None), inbox.c.not_before > now).values(not_before=now))
    far = turns.c.state == "running", turns.c.lease_until > now + LEASE
    connection.execute(update(turns).where(*far).values(lease_until=now + LEASE))
