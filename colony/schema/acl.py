"""Who may do what: rows that allow, deny or hold, the roles that they speak of, and how one of them decides."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from colony.schema.base import Request, Response, Username, storable

KINDS = {"apes": "ape", "agents": "agent", "gateways": "gateway", "services": "service"}  # principals that are no user's name
OWN = "@own"  # in a scope: the channels that somebody takes part in, or the agent that one is or owns

_NAME = "[a-z](?:[a-z0-9_-]{0,29}[a-z0-9_])?"
_CHANNEL = "[a-z0-9][a-z0-9_-]{0,63}"


_SCOPE = rf"^(?:\*|channel:(?:\*|{OWN}|{_CHANNEL})|agent:(?:\*|{OWN}|{_NAME}))$"


def _scope(text: str) -> str:
    if not re.fullmatch(_SCOPE, text):
        raise ValueError("must be channel:NAME, agent:NAME, channel:*, agent:* or *")
    return text


def _action(text: str) -> str:
    if text.startswith("egress:"):
        raise ValueError("must be no host: what agents may reach is said with `colony egress`")
    if not re.fullmatch(r"[*]|(tool:)?([*]|[a-z_]{1,31})", text):
        raise ValueError("must be an operation, tool:NAME, tool:* or *")
    return text


Principal = Annotated[
    str,
    Field(pattern=f"^(?:role:)?{_NAME}$", examples=["scout"], description=f"A user, a kind ({', '.join(KINDS)}) or role:NAME."),
]
Action = Annotated[
    str,
    AfterValidator(storable),
    AfterValidator(_action),
    Field(max_length=64, examples=["post"], description="An operation, tool:NAME, tool:* or *."),
]
AskedAction = Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=300, examples=["post", "egress:pypi.org"])]
Scope = Annotated[
    str,
    AfterValidator(_scope),
    Field(
        max_length=80,
        examples=["channel:general"],
        json_schema_extra={"pattern": _SCOPE},
        description="channel:NAME, agent:NAME, channel:*, agent:* or *.",
    ),
]
RoleName = Annotated[str, Field(pattern=f"^{_NAME}$", examples=["editors"])]
Effect = Literal["allow", "deny", "hold"]  # held: a person has to agree first


class AclRow(Response):
    """One row: it allows or denies a principal an action in a scope, or has it approved first."""

    principal: str
    action: str
    scope: str
    effect: Effect
    grant_option: bool = False  # its principal may pass it on
    granted_by: str | None = None  # absent: it holds by default
    granted_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.principal} {self.effect} {self.action} {self.scope}"


class ListAcl(Request):
    """List who may do what: any deny wins, and what no row allows is denied."""

    principal: Principal | None = Field(default=None, description="Only what counts for this user, kind or role.")
    defaults: bool = Field(default=False, description="Also what holds where nobody has said anything.")


class Acl(Response):
    rows: list[AclRow]


class SetAcl(Request):
    """Allow or deny somebody an action, or hold it for approval, in place of the row that they have for that action and scope."""

    told = frozenset({"principal", "action", "scope", "effect", "grant_option"})
    principal: Principal
    action: Action
    scope: Scope = "*"
    effect: Effect
    grant_option: bool = Field(default=False, description="They may allow it to others.")


class DropAcl(Request):
    """Forget the row that a user, a kind or a role has for an action and scope."""

    told = frozenset({"principal", "action", "scope"})
    principal: Principal
    action: Action
    scope: Scope = "*"


class ExplainAcl(Request):
    """Say whether a user may do something, and which row decides."""

    user: Username
    action: AskedAction
    scope: Scope = "*"


class AclVerdict(Response):
    user: str
    action: str
    scope: str
    effect: Effect
    reason: str
    row: AclRow | None = None  # absent: no row allows it, or something else than rows decides


class ListRoles(Request):
    """List the roles with their members."""


class RoleMember(Response):
    role: str
    username: str


class Roles(Response):
    members: list[RoleMember]


class JoinRole(Request):
    """Give a user a role: what rows say of role:NAME counts for them. Repeating it is harmless."""

    role: RoleName
    username: Username


class LeaveRole(Request):
    """Take a role from a user. Repeating it is harmless."""

    role: RoleName
    username: Username
