"""What the tests of private channels share; `samples.room` makes one."""

from __future__ import annotations

from typing import Any

from colony import operations, schema
from colony.client import Client
from server import invariants
from tests.server.support import Colony


def add(colony: Colony, username: str, kind: schema.Kind, **more: Any) -> Client:
    """A new user, with a token."""
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=username, kind=kind, **more))
    return colony.client(colony.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=username)).token)


def wrong(colony: Colony) -> list[str]:
    """The rules that the colony's database breaks."""
    with colony.gate.database.read() as connection:
        return list(invariants.findings(connection))
