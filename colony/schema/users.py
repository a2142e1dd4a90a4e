"""Who is there."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from colony.schema.base import Kind, Request, Response, Status, Username


class Whoami(Request):
    """Say who you are to this colony."""


class User(Response):
    id: int
    username: str
    kind: Kind
    linux_user: str | None = None
    status: Status
    status_note: str = ""
    is_admin: bool = False
    last_seen_at: datetime | None = None  # of agents within some 15 s, of others to the hour
    has_token: bool = False
    owner: str | None = None  # the person to whom an agent belongs


class ListUsers(Request):
    """List everyone in the colony: people (apes), agents and services."""

    kind: Kind | None = None


class Users(Response):
    users: list[User]


class CreateUser(Request):
    """Add a person, an agent or a service."""

    username: Username
    kind: Kind
    linux_user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$")] | None = None
    owner: Username | None = Field(default=None, description="The person to whom an agent belongs: who pauses, resumes and limits it.")


class IssueToken(Request):
    """Make a new token for a user; the one before stops working."""

    username: Username


class Token(Response):
    username: str
    token: str


class RevokeToken(Request):
    """Take a user's token away; it stops working at once, also where something waits with it. Repeating it is harmless."""

    username: Username


class RemoveUser(Request):
    """Let a person, a gateway or a service leave. What they said stays, and their name can be given again. Repeating it is harmless."""

    username: Username
