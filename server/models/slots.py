"""The colony's slots for running turns: few, and given to whoever waits longest."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, func, or_, select

from server.models.base import Timestamp
from server.models.inbox import inbox
from server.models.turn import turns
from server.models.user import users
from server.prepared import Prepared

PRESENT_SECONDS = 60  # an agent that was heard of within that time would take a slot; another must not keep it free
ALWAYS_FAIR = 8  # with so few slots left, or half of all, the order is looked at
RECHECK_SECONDS = 5  # after which an agent without a slot looks again, should nobody have woken it


def taken(now: ColumnElement[datetime]) -> Select[int]:
    """How many turns run."""
    running = turns.alias()
    return select(func.count()).select_from(running).where(running.c.state == "running", running.c.lease_until > now)


_TAKEN = Prepared(taken(bindparam("now", type_=Timestamp)))


def is_free_for(connection: Connection, agent_id: int, oldest_item_id: int | None, slots: int, now: datetime) -> bool:
    """Whether the agent may begin a turn: more slots are free than agents wait longer than it does (all do, if it has no item)."""
    free = slots - int(_TAKEN.scalar(connection, {"now": now}))
    if free <= 0 or not is_scarce(free, slots):
        return free > 0
    longer = [] if oldest_item_id is None else [inbox.c.id < oldest_item_id]
    ahead = select(users.c.id).where(_could_begin(now), users.c.id != agent_id, exists().where(_due(now), *longer)).limit(free)
    return len(connection.execute(ahead).all()) < free


def next_in_line(connection: Connection, slots: int, now: datetime) -> list[int]:
    """The agents to wake when a turn has ended: as many as slots are free, if some agents may have been refused one."""
    free = slots - int(_TAKEN.scalar(connection, {"now": now}))
    if free <= 0 or not is_scarce(free, slots):
        return []
    oldest = select(inbox.c.id).where(_due(now)).order_by(inbox.c.id).limit(1).scalar_subquery()
    waiting = select(users.c.id, oldest.label("oldest")).where(_could_begin(now)).subquery()
    query = select(waiting.c.id).where(waiting.c.oldest.is_not(None)).order_by(waiting.c.oldest).limit(free)
    return list(connection.execute(query).scalars())


def is_scarce(free: int, slots: int) -> bool:
    """Else there is enough for all, and nobody needs to know who waits."""
    return free <= max(slots // 2, ALWAYS_FAIR)


def _could_begin(now: datetime) -> ColumnElement[bool]:
    is_busy = exists().where(turns.c.agent_id == users.c.id, turns.c.state == "running", turns.c.lease_until > now)
    return and_(
        users.c.kind == "agent",
        users.c.status == "healthy",
        or_(users.c.held_until.is_(None), users.c.held_until <= now),
        users.c.last_seen_at > now - timedelta(seconds=PRESENT_SECONDS),
        ~is_busy,
    )


def _due(now: datetime) -> ColumnElement[bool]:
    """An agent's open item whose time has come."""
    is_time = or_(inbox.c.not_before.is_(None), inbox.c.not_before <= now)
    return and_(inbox.c.agent_id == users.c.id, inbox.c.acked_at.is_(None), is_time)
