"""What leaves the agents' sandboxes for the network."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from colony.schema.base import (
    MAX_CONTACTS,
    ContactId,
    ContactKind,
    ContactState,
    ContactVerdict,
    Count,
    EgressEffect,
    HostPattern,
    Id,
    Limit,
    LinuxUser,
    Moment,
    Request,
    Response,
    RulePorts,
    Username,
    Version,
    Wait,
    storable,
)


class EgressRule(Response):
    agent: str  # or agents: for all of them
    effect: EgressEffect
    host: str
    ports: list[int] = []  # empty: 80 and 443 of an allow, all of a deny
    set_by: str | None = None
    set_at: datetime | None = None


class ListEgress(Request):
    """List the rules about what agents may reach: any deny wins, and what no rule allows is denied."""

    agent: Username | None = Field(default=None, description="Only the rules that count for this agent; agents: those for all.")


class EgressRules(Response):
    rules: list[EgressRule]


class SetEgress(Request):
    """Allow an agent a host, or deny it, in place of the rule that it has for that host; `agents` means all of them."""

    told = frozenset({"agent", "effect", "host", "ports"})
    agent: Username
    effect: EgressEffect
    host: HostPattern
    ports: RulePorts = Field(default=[], description="Empty: 80 and 443 of an allow, all of a deny.")


class DropEgress(Request):
    """Forget the rule that an agent, or `agents` for all of them, has for a host."""

    told = frozenset({"agent", "host"})
    agent: Username
    host: HostPattern


class GetEgressPolicy(Request):
    """Give all rules by the agents' Linux users, as soon as they are not those that the caller knows."""

    known: Version | None = Field(default=None, description="The version that the caller has.")
    wait: Wait = 0


class EgressPolicy(Response):
    version: str  # another one exactly when the rest differs
    agents: dict[str, list[EgressRule]]  # by Linux user, of all agents that live; without who set them and when


class Contact(Request):
    """One connection that a sandbox asked for."""

    id: ContactId
    linux_user: LinuxUser
    host: Annotated[str, AfterValidator(storable), Field(max_length=255)]  # as it was asked for: what was denied may be no host at all
    port: Annotated[int, Field(ge=0, le=65_535)]
    verdict: ContactVerdict
    reason: Annotated[str, AfterValidator(storable), Field(max_length=200)] = ""
    sent_bytes: Count = 0
    received_bytes: Count = 0
    began_at: Moment
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    kind: ContactKind
    times: Annotated[int, Field(ge=1, le=10**9)] = 1  # how many of its like it stands for
    is_open: bool = False  # it goes on; what is known of it by now
    holds_honeytoken: bool = False  # and so was denied
    secrets: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)] = []  # by name, that have gone out with it


class RecordEgress(Request):
    """Keep what agents reached or tried to reach. Repeating it is harmless.

    What is known by its id already is changed while that goes on, or if it stands for more by now.
    """

    contacts: Annotated[list[Contact], Field(max_length=MAX_CONTACTS)]


class EgressRecorded(Response):
    recorded: int  # those that were new


class ReadEgressLog(Request):
    """Show what an agent reached or tried to reach, newest first. For itself, its owner and administrators."""

    agent: Username | None = Field(default=None, description="Absent: everyone's, also of who is no agent; for administrators.")
    turn: Id | None = Field(default=None, description="Only what this turn reached.")
    limit: Limit = 50
    before: Id | None = Field(default=None, description="Only what was recorded before this entry.")


class EgressEntry(Response):
    id: int  # higher: recorded later
    agent: str | None = None  # absent: nobody had that Linux user
    linux_user: str
    turn_id: int | None = None  # that ran then
    attempt: int | None = None
    host: str
    port: int
    verdict: ContactVerdict
    reason: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0
    began_at: datetime
    seconds: float = 0.0
    kind: ContactKind
    times: int = 1  # how many of its like it stands for
    state: ContactState = "ended"


class EgressLog(Response):
    contacts: list[EgressEntry]


class EgressVerdict(Response):
    """What the rules say about a connection, before its host is resolved."""

    agent: str
    host: str
    port: int
    allowed: bool
    reason: str
    rule: EgressRule | None = None  # that decides, if one does
