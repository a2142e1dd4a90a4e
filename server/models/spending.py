"""What agents have used of their limits: turns and dollars, by the hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, Float, ForeignKey, Integer, Table, func, select, update

from server.models.base import Key, Timestamp, metadata

spending = Table(
    "spending",
    metadata,
    Column("agent_id", Key, ForeignKey("users.id"), primary_key=True),
    Column("hour", Timestamp, primary_key=True),  # when it began, in UTC
    Column("turns", Integer, nullable=False, server_default="0"),  # how often one was handed out: each attempt counts
    Column("cost_usd", Float, nullable=False, server_default="0"),
)


@dataclass(frozen=True)
class Spent:
    """Used so far."""

    turns_this_hour: int
    usd_today: float


def add(connection: Connection, agent_id: int, now: datetime, *, turns: int = 0, usd: float = 0.0) -> None:
    """Book it to the hour in which it became known."""
    mine = (spending.c.agent_id == agent_id) & (spending.c.hour == this_hour(now))
    more = {"turns": spending.c.turns + turns, "cost_usd": spending.c.cost_usd + usd}
    if not connection.execute(update(spending).where(mine).values(more)).rowcount:
        connection.execute(spending.insert().values(agent_id=agent_id, hour=this_hour(now), turns=turns, cost_usd=usd))


def of(connection: Connection, agent_id: int | None, now: datetime) -> Spent:
    """An agent's, or the whole colony's."""
    in_this_hour = func.sum(spending.c.turns).filter(spending.c.hour == this_hour(now))
    query = select(func.coalesce(in_this_hour, 0), func.coalesce(func.sum(spending.c.cost_usd), 0.0)).where(spending.c.hour >= today(now))
    turns, usd = connection.execute(query if agent_id is None else query.where(spending.c.agent_id == agent_id)).one()
    return Spent(turns, usd)


def this_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


def today(now: datetime) -> datetime:
    """When the UTC day began."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def next_hour(now: datetime) -> datetime:
    return this_hour(now) + timedelta(hours=1)


def tomorrow(now: datetime) -> datetime:
    return today(now) + timedelta(days=1)
