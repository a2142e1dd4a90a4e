"""What tests of egress say most about a colony's agents."""

from __future__ import annotations

from sqlalchemy import update

from colony import operations, schema
from colony.client import Client
from colony.config import GATE_USER
from server.models.user import token_hash, users
from tests.server.cast import token_of
from tests.server.machine import NOBODY, peer
from tests.server.support import Colony


def settle(colony: Colony) -> Colony:
    """Scout is bob's, and both agents have a Linux user."""
    give_linux_users(colony)
    colony.admin.call(operations.SET_OWNER, schema.SetOwner(agent="scout", owner="bob"))
    return colony


def give_linux_users(colony: Colony) -> None:
    named = update(users).where(users.c.kind == "agent").values(linux_user=users.c.username)
    colony.gate.database.write(lambda connection: connection.execute(named))


def settle_gate(colony: Colony) -> Client:
    """The egress gate, as it is known on a host; here it is the Linux user nobody."""
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=GATE_USER, kind="service", linux_user="nobody"))
    return colony.peer(peer(NOBODY))


def die(colony: Colony, agent: str) -> None:
    colony.set_status(agent, "draining")
    colony.set_status(agent, "dead")


def bear_again(colony: Colony, agent: str) -> None:
    """The agent dies, and a moment later another one has its name, and the token that tests know."""
    die(colony, agent)
    colony.clock.advance(1)
    bear(colony, agent)
    again = update(users).where(users.c.username == agent).values(token_hash=token_hash(token_of(agent)))
    colony.gate.database.write(lambda connection: connection.execute(again))
    colony.set_status(agent, "healthy")


def bear(colony: Colony, agent: str) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=agent, kind="agent", linux_user=agent))
