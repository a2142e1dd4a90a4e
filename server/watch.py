"""Notices silence: agents that should report and don't, or let something wait for too long, are announced once in #ops.

And it notices when somebody sets the clock: what was to end at a time must not wait until the clock has come there again.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import Connection, Row, update

from server.gate import Gate
from server.models import agent as agent_model
from server.models import ops, setback
from server.models.agent import Patience
from server.models.posting import Posted
from server.models.user import users

log = logging.getLogger(__name__)

LOOK_SECONDS = 15
JUMP_SECONDS = 5  # by which a clock that nobody sets is never off within one look


def start(gate: Gate, patience: Patience) -> None:
    """Look every few seconds, in a thread that ends with the process."""
    try:
        follow_clock(gate)  # before anybody is heard: then nothing would show any more that it was set while no server ran
    except Exception:  # the disk may be full
        log.exception("the clock was not looked at")
    threading.Thread(target=_go_on, args=[gate, patience], name="watch", daemon=True).start()


def follow_clock(gate: Gate) -> None:
    """If the clock was set back, let all that waits for a time look again."""
    with gate.database.read() as connection:
        if not setback.has_happened(connection, gate.clock()):
            return
    _let_all_look_again(gate)


def look(gate: Gate, patience: Patience) -> None:
    """Announce once who fell silent, and once who is well again. Of several servers, whoever writes it down first does."""
    with gate.database.read() as connection:
        is_calm = not _news(connection, patience, gate.clock())
    if not is_calm:
        gate.speak(lambda connection, now: _announce(connection, patience, now))


def _go_on(gate: Gate, patience: Patience) -> None:
    ahead = _ahead(gate)
    silence_counts_at = monotonic() + patience.silent_seconds  # while this server was away nobody could report
    while True:
        gate.waiters.wait("watch", gate.waiters.moment, monotonic() + LOOK_SECONDS)  # which ends at once when the server does
        if gate.waiters.is_closed:
            return
        try:
            jump = _ahead(gate) - ahead
            if jump < -JUMP_SECONDS:
                _let_all_look_again(gate)
            if abs(jump) > JUMP_SECONDS:
                silence_counts_at = monotonic() + patience.silent_seconds  # what was skipped nobody has kept silent for
            ahead += jump
            gate.presence.write_down()
            if monotonic() >= silence_counts_at:
                look(gate, patience)
        except Exception:  # the next time the database may answer
            log.exception("watch failed")


def _let_all_look_again(gate: Gate) -> None:
    log.warning("the clock was set back: what waits for a time looks again")
    gate.database.write(lambda connection: setback.undo(connection, gate.clock()))
    gate.waiters.wake_all()


def _ahead(gate: Gate) -> float:
    """How far the wall's clock is ahead of the one that nobody can set, in seconds."""
    return gate.clock().timestamp() - monotonic()


def _announce(connection: Connection, patience: Patience, now: datetime) -> list[Posted]:
    posted: list[Posted] = []
    for agent, trouble in _news(connection, patience, now):
        is_first = users.c.alarmed_at.is_(None) if trouble else users.c.alarmed_at.is_not(None)
        noted = update(users).where(users.c.id == agent.id, is_first).values(alarmed_at=now if trouble else None)
        if connection.execute(noted).rowcount and (trouble or agent.status == "healthy"):
            news = trouble or f"{agent.username} is well again."
            posted += ops.tell(connection, agent, news, f"watch:{agent.id}:{now.timestamp()}", now)
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
