"""What agents have used of their limits: turns and dollars, by the hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, Float, ForeignKey, Integer, Table, bindparam, func, select, update

from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

spending = Table(
    "spending",
    metadata,
    Column("agent_id", Key, ForeignKey("users.id"), primary_key=True),
    Column("hour", Timestamp, primary_key=True),  # when it began, in UTC
    Column("turns", Integer, nullable=False, server_default="0"),  # how often one was handed out: each attempt counts
    Column("cost_usd", Float, nullable=False, server_default="0"),
)

_ADD = Prepared(
    update(spending)
    .where(spending.c.agent_id == bindparam("agent"), spending.c.hour == bindparam("in_hour"))
    .values(turns=spending.c.turns + bindparam("more_turns"), cost_usd=spending.c.cost_usd + bindparam("more_usd"))
)
_OPEN = Prepared(
    spending.insert().values(
        agent_id=bindparam("agent"), hour=bindparam("in_hour"), turns=bindparam("more_turns"), cost_usd=bindparam("more_usd")
    )
)
_in_this_hour = func.sum(spending.c.turns).filter(spending.c.hour == bindparam("this_hour"))
_of_all = select(func.coalesce(_in_this_hour, 0), func.coalesce(func.sum(spending.c.cost_usd), 0.0)).where(
    spending.c.hour >= bindparam("today"),
    spending.c.hour < bindparam("tomorrow"),  # more is there when the clock was set back; it counts when its day comes
)
_OF_ALL = Prepared(_of_all)
_OF_ONE = Prepared(_of_all.where(spending.c.agent_id == bindparam("agent")))


@dataclass(frozen=True)
class Spent:
    """Used so far."""

    turns_this_hour: int
    usd_today: float


def add(connection: Connection, agent_id: int, now: datetime, *, turns: int = 0, usd: float = 0.0) -> None:
    """Book it to the hour in which it became known."""
    values = {"agent": agent_id, "in_hour": this_hour(now), "more_turns": turns, "more_usd": usd}
    if not _ADD.run(connection, values):
        _OPEN.run(connection, values)


def of(connection: Connection, agent_id: int | None, now: datetime) -> Spent:
    """An agent's, or the whole colony's."""
    values = {"agent": agent_id, "this_hour": this_hour(now), "today": today(now), "tomorrow": tomorrow(now)}
    turns, usd = (_OF_ALL if agent_id is None else _OF_ONE).rows(connection, values)[0]
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
