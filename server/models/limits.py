"""What an agent, and the colony as a whole, may use: decided and reserved in the transaction that hands a turn out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, func, select

from colony import schema
from server.models import spending
from server.models.turn import turns

WORTHWHILE = 0.1  # the least part of what a turn may cost with which one is begun at all


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    budget_usd_per_day: float | None = None  # a day of UTC
    turns_per_hour: int | None = None  # a clock's hour; each attempt counts


@dataclass(frozen=True)
class Exhausted:
    """Why no turn is handed out now."""

    reason: str
    remedy: str
    until: datetime | None  # when the limit starts anew; None: what running turns leave over is free again when they end


def reserve(connection: Connection, agent: Row[tuple[object, ...]], colony: Limits, turn_usd: float, now: datetime) -> float | Exhausted:
    """What the agent's next turn may cost, in dollars; 0 where no budget is set. All other claims must be locked out.

    What is spent and what running turns have reserved stays below each budget together, however many agents claim at once.
    """
    allowed = turn_usd
    is_bounded = False
    for whose, limits, agent_id in _owners(agent, colony):
        spent = spending.of(connection, agent_id, now)
        if limits.turns_per_hour is not None and spent.turns_this_hour >= limits.turns_per_hour:
            reason = f"{whose.says} {limits.turns_per_hour} turns an hour are used up"
            return Exhausted(reason, whose.remedy("turns-per-hour"), spending.next_hour(now))
        if limits.budget_usd_per_day is None:
            continue
        is_bounded = True
        left = limits.budget_usd_per_day - spent.usd_today
        least = WORTHWHILE * min(turn_usd, limits.budget_usd_per_day)
        if left <= 0 or left < least:
            reason = f"{whose.says} budget of ${limits.budget_usd_per_day:.2f} a day is spent"
            return Exhausted(reason, whose.remedy("budget-usd-per-day"), spending.tomorrow(now))
        left -= _reserved(connection, agent_id)
        if left <= 0 or left < least:
            return Exhausted(f"running turns have reserved the rest of {whose.says} budget", "", None)
        allowed = min(allowed, left)
    return allowed if is_bounded else 0.0


def together(connection: Connection, colony: Limits, now: datetime) -> schema.Allowance:
    """What all agents together have used of the colony's limits."""
    spent = spending.of(connection, None, now)
    return schema.Allowance(
        turns_this_hour=spent.turns_this_hour,
        turns_per_hour=colony.turns_per_hour,
        cost_usd_today=spent.usd_today,
        budget_usd_per_day=colony.budget_usd_per_day,
    )


@dataclass(frozen=True)
class _Owner:
    says: str
    command: str

    def remedy(self, option: str) -> str:
        return f"raise it with `{self.command} --{option}`"


def _owners(agent: Row[tuple[object, ...]], colony: Limits) -> Iterator[tuple[_Owner, Limits, int | None]]:
    yield _Owner("its", f"colony limits {agent.username}"), Limits(agent.budget_usd_per_day, agent.turns_per_hour), agent.id
    yield _Owner("the colony's", "colony-server run"), colony, None


def _reserved(connection: Connection, agent_id: int | None) -> float:
    query = select(func.coalesce(func.sum(turns.c.reserved_usd), 0.0)).where(turns.c.state == "running")
    return float(connection.execute(query if agent_id is None else query.where(turns.c.agent_id == agent_id)).scalar_one())
