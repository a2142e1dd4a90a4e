"""Whose an agent is. What an owner has said about their agent, and the keys that they lent it, go when it is theirs no more."""

from __future__ import annotations

from sqlalchemy import Connection

from server.models import acl, secret, user


def give(connection: Connection, agent: str, owner: str | None) -> None:
    """Make the agent that person's, or nobody's. Raises `NotFound` and `Invalid` for an owner who can't be one."""
    before = user.find_agent(connection, agent, lock=True)
    user.give(connection, before.id, owner)
    if user.find(connection, agent).owner_id != before.owner_id:
        _end(connection, before.owner_id, before.id, agent)


def part(connection: Connection, owner_id: int) -> None:
    """This person owns no agent any more."""
    for agent_id, agent in user.owned(connection, owner_id):
        _end(connection, owner_id, agent_id, agent)


def _end(connection: Connection, owner_id: int | None, agent_id: int, agent: str) -> None:
    acl.drop_of_owner(connection, owner_id, agent)
    secret.drop_of_owner(connection, owner_id, agent_id)
