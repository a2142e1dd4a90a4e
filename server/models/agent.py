"""Agents as the colony sees them: their state, what waits for them, what they did today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, select

from colony import schema
from server.models import spending
from server.models.base import Timestamp
from server.models.inbox import inbox
from server.models.spending import spending as used
from server.models.turn import turns
from server.models.user import users


@dataclass(frozen=True)
class Waiting:
    """An agent's open inbox items."""

    agent: str
    items: int
    oldest_seconds: float


def waiting(connection: Connection, now: datetime) -> list[Waiting]:
    """The agents for whom something waits, the oldest first; costs as much as there is open."""
    oldest = func.min(inbox.c.created_at, type_=Timestamp)
    counted = (
        select(users.c.username, func.count().label("items"), oldest.label("oldest"))
        .select_from(users.join(inbox, inbox.c.agent_id == users.c.id))
        .where(users.c.kind == "agent", inbox.c.acked_at.is_(None))
        .group_by(users.c.username)
        .order_by(oldest)
    )
    return [Waiting(row.username, row.items, max(0.0, (now - row.oldest).total_seconds())) for row in connection.execute(counted)]


def listed(connection: Connection, now: datetime, username: str | None = None) -> list[schema.Agent]:
    """All agents, or the one of that name; "today" is the UTC day, and each attempt of a turn counts."""
    waiting = (
        select(inbox.c.agent_id, func.count().label("inbox"), func.min(inbox.c.created_at).label("oldest_item_at"))
        .where(inbox.c.acked_at.is_(None))
        .group_by(inbox.c.agent_id)
        .subquery()
    )
    today = (
        select(
            used.c.agent_id,
            func.sum(used.c.turns).label("turns_today"),
            func.sum(used.c.turns).filter(used.c.hour == spending.this_hour(now)).label("turns_this_hour"),
            func.sum(used.c.cost_usd).label("cost_usd_today"),
        )
        .where(used.c.hour >= spending.today(now))
        .group_by(used.c.agent_id)
        .subquery()
    )
    live = and_(turns.c.agent_id == users.c.id, turns.c.state == "running")
    joined = (
        users.outerjoin(waiting, waiting.c.agent_id == users.c.id).outerjoin(today, today.c.agent_id == users.c.id).outerjoin(turns, live)
    )
    used_up = today.c.turns_today, today.c.turns_this_hour, today.c.cost_usd_today
    columns = select(users, waiting.c.inbox, waiting.c.oldest_item_at, *used_up, turns.c.id.label("turn_id"))
    query = columns.select_from(joined).where(users.c.kind == "agent").order_by(users.c.username)
    if username is not None:
        query = query.where(users.c.username == username)
    return [
        schema.Agent(
            username=row.username,
            status=row.status,
            status_note=row.status_note,
            last_seen_at=row.last_seen_at,
            held_until=row.held_until,
            inbox=row.inbox or 0,
            oldest_item_at=row.oldest_item_at,
            turn_id=row.turn_id,
            turns_today=row.turns_today or 0,
            turns_this_hour=row.turns_this_hour or 0,
            turns_per_hour=row.turns_per_hour,
            cost_usd_today=row.cost_usd_today or 0.0,
            budget_usd_per_day=row.budget_usd_per_day,
            posts_per_turn=row.posts_per_turn,
        )
        for row in connection.execute(query)
    ]
