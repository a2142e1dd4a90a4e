"""What happens to an agent that was about to give its honeytoken away: whoever it listened to has had it look for credentials."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from colony import failures
from server.models import ops, settle, turn, user
from server.models.posting import Posted
from server.models.user import users


def sound(connection: Connection, agent_id: int, how: str, occasion: str | None, now: datetime) -> list[Posted]:
    """End its turn, pause it, and call its owner in #ops; once for each occasion, or each hour where there is none.

    Who sounds it wakes the agent.
    """
    agent = connection.execute(select(users).where(users.c.id == agent_id).with_for_update(key_share=True)).one()
    live = turn.running(connection, agent.id)
    of_turn = f" in turn {live.id}" if live else ""
    and_so = ", and is paused" if agent.status == "healthy" else ""
    text = (
        f"{agent.username} was about to give its honeytoken away{of_turn}, {how}{and_so}. Somebody has had it look for credentials: "
        f"see what it was told, and `colony egress log {agent.username}`, before `colony resume {agent.username}`."
    )
    posted = ops.tell(connection, agent, text, f"honeytoken:{agent.id}:{occasion or f'{now:%Y-%m-%dT%H}'}", now)
    if occasion and all(each.message.duplicate for each in posted):
        return posted
    if live:
        posted += settle.fail(connection, live, failures.BETRAYED, "", None, now)
    if agent.status == "healthy":
        user.move(connection, agent, "paused", f"it was about to give its honeytoken away: see #{ops.OPS}", now)
    return posted
