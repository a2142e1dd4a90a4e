"""What the colony says in a channel because of a post: who is not woken by it, who has to wait, whom it does not reach."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, select

from colony import schema
from server.models import channel, user
from server.models.user import users


class Notice(NamedTuple):
    body: str
    client_id: str  # under which it is said once


@dataclass(frozen=True)
class Missed:
    """The names that a message mentions without reaching anybody, in order."""

    unknown: list[str]  # nobody's
    outside: list[str]  # of who is no member of the private channel
    gone: list[str]  # of who has left the colony


_NOBODY = Missed([], [], [])


def missed(connection: Connection, names: Collection[str], reached: int, place: channel.Place) -> Missed:
    """What is wrong with those of the names that are not among the `reached` ones, who have an item."""
    if reached == len(names):  # they exist, live and are members
        return _NOBODY
    known = user.statuses(connection, names)
    living = {name for name, status in known.items() if status != "dead"}
    outside = living - channel.insiders(connection, place.channel_id, living) if place.is_private and living else set[str]()
    return Missed(sorted(set(names) - known.keys()), sorted(outside), sorted(known.keys() - living))


def notices(connection: Connection, said: schema.Message, tripped: str, away: Collection[int], missed: Missed) -> Iterator[Notice]:
    """`tripped` is why the loop guard cuts in with this message, `away` are the agents that it mentions and that do no work for a while."""
    if tripped:
        yield Notice(tripped, f"guard:{said.turn_id or f'post-{said.id}'}")
    for agent_id in away:
        yield absence(connection, agent_id, said.channel)
    if missed.outside and said.author_kind == "agent":  # whom nobody asks to invite them
        yield Notice(f"{', '.join(missed.outside)} can't be told of #{said.seq}: no member of this channel.", f"{said.id}:outside")
    for name in missed.gone:
        yield Notice(f"{name} has left the colony and won't answer #{said.seq}.", f"{said.id}:{name}")


def absence(connection: Connection, agent_id: int, channel: str) -> Notice:
    """That an agent's answers have to wait, why, and what helps: once for each absence."""
    agent = connection.execute(select(users).where(users.c.id == agent_id)).one()
    note = f": {agent.status_note}" if agent.status_note else ""
    body = {
        "healthy": f"{agent.username} has to wait with its answers{note}.",
        "provisioning": f"{agent.username} is not at work yet{note}. It answers once it is.",
    }.get(agent.status, f"{agent.username} is {agent.status}{note}. It answers once somebody calls `colony resume {agent.username}`.")
    since = agent.away_since or agent.created_at
    return Notice(body, f"away:{agent.id}:{since.timestamp():.6f}:{channel}")
