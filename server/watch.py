"""Notices silence: agents that should report and don't, or let something wait for too long, are announced once in #ops."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import Connection, Row, select, update

from server.gate import Gate
from server.models import agent as agent_model
from server.models import channel, posting
from server.models.agent import Patience
from server.models.posting import Posted
from server.models.user import users

log = logging.getLogger(__name__)

LOOK_SECONDS = 15
OPS = "ops"


def start(gate: Gate, patience: Patience) -> None:
    """Look every few seconds, in a thread that ends with the process."""
    threading.Thread(target=_go_on, args=[gate, patience], name="watch", daemon=True).start()


def look(gate: Gate, patience: Patience) -> None:
    """Announce once who fell silent, and once who is well again. Of several servers, whoever writes it down first does."""
    with gate.database.read() as connection:
        is_calm = not _news(connection, patience, gate.clock())
    if not is_calm:
        gate.speak(lambda connection, now: _announce(connection, patience, now))


def _go_on(gate: Gate, patience: Patience) -> None:
    pause: float = patience.silent_seconds  # while this server was away nobody could report
    while True:
        gate.waiters.wait("watch", gate.waiters.moment, monotonic() + pause)  # which ends at once when the server does
        if gate.waiters.is_closed:
            return
        try:
            look(gate, patience)
        except Exception:  # the next time the database may answer
            log.exception("watch failed")
        pause = LOOK_SECONDS


def _announce(connection: Connection, patience: Patience, now: datetime) -> list[Posted]:
    posted: list[Posted] = []
    for agent, trouble in _news(connection, patience, now):
        is_first = users.c.alarmed_at.is_(None) if trouble else users.c.alarmed_at.is_not(None)
        noted = update(users).where(users.c.id == agent.id, is_first).values(alarmed_at=now if trouble else None)
        if connection.execute(noted).rowcount and (trouble or agent.status == "healthy"):
            posted += _tell(connection, agent, trouble or f"{agent.username} is well again.", now)
    return posted


def _news(connection: Connection, patience: Patience, now: datetime) -> list[tuple[Row[tuple[object, ...]], str]]:
    """Each agent of whom there is something to tell, with its trouble, or nothing where that is over."""
    long_ago = now - timedelta(seconds=patience.overdue_seconds)
    news = []
    for agent in agent_model.watched(connection, now):
        trouble = _trouble(agent, patience, now)
        # Items in a running turn are not overdue; but only when they have ended the trouble is over.
        still_waits = agent.status == "healthy" and agent.oldest_item_at and agent.oldest_item_at <= long_ago
        if bool(trouble) != bool(agent.alarmed_at) and (trouble or not still_waits):
            news.append((agent, trouble))
    return news


def _trouble(agent: Row[tuple[object, ...]], patience: Patience, now: datetime) -> str:
    if since := agent_model.silent_since(agent, patience, now):
        waiting = f" ({agent.inbox} in its inbox)" if agent.inbox else ""
        return f"{agent.username} is silent: nothing was heard of it since {since:%Y-%m-%d %H:%M} UTC{waiting}. See its worker's log."
    if since := agent_model.overdue_since(agent, patience, now):
        why = f": {agent.status_note}" if agent.status_note else ""  # in which the colony has quoted what an agent said
        return f"{agent.username} lets messages wait since {since:%Y-%m-%d %H:%M} UTC{why}. `colony agents` shows what it does."
    return ""


def _tell(connection: Connection, agent: Row[tuple[object, ...]], text: str, now: datetime) -> list[Posted]:
    if not channel.exists(connection, OPS):
        channel.create(connection, OPS, "How the colony itself is doing", now)
    owner = connection.execute(select(users.c.username).where(users.c.id == agent.owner_id, users.c.kind == "ape")).scalar()
    return posting.notice(connection, OPS, f"@{owner} {text}" if owner else text, f"watch:{agent.id}:{now.timestamp()}", now)
