"""What tests of turns ask of a colony and look for in it."""

from __future__ import annotations

from colony import operations, schema
from server.config import ServerConfig
from server.models.claim import Terms
from tests.server.support import Clock, Colony


def renew(colony: Colony, turn: schema.Turn, seconds: int = 60) -> schema.Lease:
    return colony.in_turn(turn).call(operations.RENEW, schema.RenewTurn(id=turn.id, lease_seconds=seconds))


def limited(database_url: str, clock: Clock, slots: int) -> Colony:
    return Colony(database_url, clock, ServerConfig(database_url, terms=Terms(slots=slots)))


def outcomes(colony: Colony, agent: str = "scout") -> list[str | None]:
    return [item.outcome for item in colony.items(agent)]


def notices(colony: Colony) -> list[schema.Message]:
    return [message for message in colony.read() if message.type == "notice"]
