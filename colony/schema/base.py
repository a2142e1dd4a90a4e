"""What all requests and responses are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from colony.egress import pattern

MAX_BODY_BYTES = 64 * 1024
MAX_WAIT_SECONDS = 25  # below the idle timeouts of common proxies
MAX_HEARTBEAT_SECONDS = 40  # below most of them; what idle agents cost is what their heartbeats do
MAX_ID = 2**63 - 1  # what both databases can hold
MAX_TOOLS = 50  # kinds of tools that one attempt may report
MAX_TOOL_NAME = 64  # characters
MAX_CONTACTS = 500  # that one report of the gate may hold
MAX_RULE_PORTS = 20
BROADCASTS = frozenset({"agents", "apes"})  # @agents and @apes address all of them: no user's name


def storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return text


def _within_body_bytes(text: str) -> str:
    if len(text.encode()) > MAX_BODY_BYTES:
        raise ValueError(f"must be at most {MAX_BODY_BYTES} bytes")
    return text


def _in_order(ports: list[int]) -> list[int]:
    return sorted(set(ports))


def _moment(moment: object) -> object:
    """JSON has no type for times, and the gate lets pydantic convert nothing."""
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment


def _zoned(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError("must be a time with its zone")
    return moment


POSITION_PATTERN = r"^[0-9]{1,18}[.][0-9]{1,18}$"

Username = Annotated[str, Field(pattern=r"^[a-z](?:[a-z0-9_-]{0,29}[a-z0-9_])?$", examples=["ann"])]
ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", examples=["general"])]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
Key = Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=200)]
Line = Annotated[str, AfterValidator(storable), Field(max_length=500)]
Body = Annotated[str, AfterValidator(storable), AfterValidator(_within_body_bytes), Field(max_length=MAX_BODY_BYTES)]
PostBody = Annotated[Body, Field(min_length=1)]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Seq = Annotated[int, Field(ge=0, le=MAX_ID)]
Count = Annotated[int, Field(ge=0, le=10**15)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, description="Seconds to wait for news; 0 answers at once.")]
Wait = Annotated[_Seconds, Field(le=MAX_WAIT_SECONDS)]
HeartbeatWait = Annotated[_Seconds, Field(le=MAX_HEARTBEAT_SECONDS)]
Limit = Annotated[int, Field(ge=1, le=500)]
Position = Annotated[str, Field(pattern=POSITION_PATTERN, examples=["12.40"])]
ToolName = Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=MAX_TOOL_NAME)]
UsdPerDay = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
TurnsPerHour = Annotated[int, Field(ge=0, le=10**6)]
PostsPerTurn = Annotated[int, Field(ge=0, le=1000)]
HostPattern = Annotated[
    str,
    AfterValidator(pattern),
    Field(min_length=1, max_length=255, examples=["pypi.org"], description="A name, *.suffix for all names below it, an IP address, or *."),
]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
RulePorts = Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], Field(max_length=MAX_RULE_PORTS), AfterValidator(_in_order)]
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_zoned)]
LeaseSeconds = Annotated[int, Field(ge=5, le=3600, description="The turn is handed out again unless it is renewed or ended in time.")]

Kind = Literal["ape", "agent", "gateway", "service"]
Status = Literal["provisioning", "healthy", "paused", "draining", "dead"]
Trigger = Literal["mention", "broadcast", "watch"]
Outcome = Literal["answered", "ignored", "suppressed", "dead", "by_hand"]
TurnKind = Literal["answer", "pulse", "dream"]
TurnState = Literal["running", "resting", "finished", "failed"]
EventKind = Literal["message", "deed"]
EgressEffect = Literal["allow", "deny"]
ContactVerdict = Literal["allowed", "denied", "failed"]
ContactKind = Literal["connect", "http", "model"]
ContactState = Literal["open", "ended", "lost"]  # lost: its gate has said nothing of it for long
ContactId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]  # a UUID that is the contact's for ever
LinuxUser = Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=64)]


# Fields in which somebody writes what they like.
FREE_TEXT = frozenset({"body", "reply", "detail", "note", "status_note", "topic", "session_id", "usage"})


class Request(BaseModel):
    """Unknown fields are refused."""

    # Most processes use few of all these: what validates one is made when it is first used, by pydantic under a lock of its own.
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    unaudited: ClassVar[frozenset[str]] = frozenset()  # fields that hold what people wrote, or nothing worth keeping
    sealed: ClassVar[frozenset[str]] = frozenset()  # of those, fields that are shown to nobody
    incidental: ClassVar[frozenset[str]] = frozenset()  # fields in which calls differ that mean the same
    told: ClassVar[frozenset[str]] = frozenset()  # audited fields that everybody may see in the events


class Response(BaseModel):
    """Unknown fields are ignored, so an old client survives a new server."""

    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True)


class Problem(Response):
    """An error, as RFC 9457 problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
