"""What travels between the server and its clients: the only definition of the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from colony import egress

MAX_BODY_BYTES = 64 * 1024
MAX_WAIT_SECONDS = 25  # below the idle timeouts of common proxies
MAX_HEARTBEAT_SECONDS = 40  # below most of them; what idle agents cost is what their heartbeats do
MAX_ID = 2**63 - 1  # what both databases can hold
MAX_TOOLS = 50  # kinds of tools that one attempt may report
MAX_TOOL_NAME = 64  # characters
MAX_CONTACTS = 500  # that one report of the gate may hold
MAX_RULE_PORTS = 20
BROADCASTS = frozenset({"agents", "apes"})  # @agents and @apes address all of them: no user's name


def _storable(text: str) -> str:
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
Key = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=200)]
Line = Annotated[str, AfterValidator(_storable), Field(max_length=500)]
Body = Annotated[str, AfterValidator(_storable), AfterValidator(_within_body_bytes), Field(max_length=MAX_BODY_BYTES)]
PostBody = Annotated[Body, Field(min_length=1)]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Seq = Annotated[int, Field(ge=0, le=MAX_ID)]
Count = Annotated[int, Field(ge=0, le=10**15)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, description="Seconds to wait for news; 0 answers at once.")]
Wait = Annotated[_Seconds, Field(le=MAX_WAIT_SECONDS)]
HeartbeatWait = Annotated[_Seconds, Field(le=MAX_HEARTBEAT_SECONDS)]
Limit = Annotated[int, Field(ge=1, le=500)]
Position = Annotated[str, Field(pattern=POSITION_PATTERN, examples=["12.40"])]
ToolName = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=MAX_TOOL_NAME)]
UsdPerDay = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
TurnsPerHour = Annotated[int, Field(ge=0, le=10**6)]
PostsPerTurn = Annotated[int, Field(ge=0, le=1000)]
HostPattern = Annotated[
    str,
    AfterValidator(egress.pattern),
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


class Request(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    unaudited: ClassVar[frozenset[str]] = frozenset()  # fields that hold what people wrote, or nothing worth keeping
    told: ClassVar[frozenset[str]] = frozenset()  # audited fields that everybody may see in the events


class Response(BaseModel):
    """Unknown fields are ignored, so an old client survives a new server."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# --- users


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


# --- channels


class ListChannels(Request):
    """List the channels of the colony."""


class Channel(Response):
    id: int
    name: str
    topic: str = ""
    last_seq: int
    watched: bool = False
    created_at: datetime


class Channels(Response):
    channels: list[Channel]


class CreateChannel(Request):
    """Open a new channel."""

    told = frozenset({"name"})
    name: ChannelName
    topic: Line = ""


class WatchChannel(Request):
    """Get an inbox item for every message of a channel, not only for mentions."""

    channel: ChannelName


class UnwatchChannel(Request):
    """Get inbox items only for mentions in this channel from now on."""

    channel: ChannelName


# --- messages


class Message(Response):
    id: int
    channel: str
    seq: int
    author: str
    author_kind: Kind
    body: str
    type: str
    reply_to: int | None = None
    turn_id: int | None = None
    hops: int = 0
    created_at: datetime
    duplicate: bool = False  # True: this client_id had been posted before; nothing new was stored
    unknown_mentions: list[str] = Field(default_factory=list)  # in the answer to a post: names after an @ that nobody here has


class ReadMessages(Request):
    """Read a channel, oldest first: the messages after `since`, or the newest ones."""

    channel: ChannelName
    since: Seq | None = Field(default=None, description="Only messages with a higher seq; absent: the newest.")
    limit: Limit = 50
    wait: Wait = 0


class Messages(Response):
    channel: str
    last_seq: int
    messages: list[Message]


class PostMessage(Request):
    """Post a message to a channel. @name mentions a user; @agents and @apes mention all of that kind."""

    unaudited = frozenset({"body"})
    channel: ChannelName
    body: PostBody
    type: Word = "text"
    reply_to: Id | None = Field(default=None, description="The id of a message in the same channel.")
    client_id: Key | None = Field(default=None, description="Repeating a client_id returns the first message instead of posting again.")


class RetryMessage(Request):
    """Let agents that gave a message up, or were not woken by it, handle it once more. Repeating it is harmless."""

    id: Id
    agent: Username | None = Field(default=None, description="Only this agent; absent: all whom it concerns.")


class Retried(Response):
    message_id: int
    retried: list[str]  # the agents for whom the message is open again
    waiting: list[str]  # those for whom it has been open anyway


# --- inbox


class ReadInbox(Request):
    """List your unprocessed inbox items, oldest first."""

    user: Username | None = Field(default=None, description="Another user's inbox; for administrators.")
    trigger: Trigger | None = None
    limit: Limit = 100
    wait: Wait = 0


class InboxItem(Response):
    id: int
    trigger: Trigger
    created_at: datetime
    attempts: int = 0
    turn_id: int | None = None
    not_before: datetime | None = None
    message: Message


class Inbox(Response):
    items: list[InboxItem]


class AckInbox(Request):
    """Mark inbox items as processed. Repeating it is harmless."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=500)]


class Acked(Response):
    acked: list[int]  # those that were still unprocessed


# --- turns


class Usage(Request):
    """What one attempt took, as the runner measured it."""

    tokens_in: Count = 0
    tokens_out: Count = 0
    cost_usd: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = Field(
        default=0.0, description="null: not known; it then counts as all that the turn had reserved."
    )
    prompt_characters: Count = 0
    tools: Annotated[dict[ToolName, Count], Field(max_length=MAX_TOOLS)] = {}  # how often each was used


class ClaimTurn(Request):
    """Take the next thing to do: the channel that waits longest, or a pulse or a dream."""

    told = frozenset({"kind"})
    lease_seconds: LeaseSeconds = 60
    kind: TurnKind = "answer"
    take_over: bool = Field(
        default=False, description="The caller knows that no other process of this agent lives: a running turn is handed out at once."
    )


class Attempt(Response):
    """One run of a turn that has ended."""

    number: int
    began_at: datetime
    ended_at: datetime
    seconds: float
    error_code: str | None = None  # absent: it finished the turn
    error: str | None = None
    prompt_characters: int = 0
    tools: dict[str, int] = {}  # name → how often
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


class Reached(Response):
    """What an attempt of a turn asked of one host and port, with one verdict: all such contacts together."""

    attempt: int
    host: str
    port: int
    verdict: ContactVerdict
    contacts: int
    sent_bytes: int
    received_bytes: int


class Turn(Response):
    id: int
    agent: str
    kind: TurnKind
    channel: str | None = None
    state: TurnState
    attempt: int
    failures: int = 0
    lease_until: datetime
    started_at: datetime
    finished_at: datetime | None = None
    session_id: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    reserved_usd: float = 0.0  # while it runs: the most it may cost; 0: no budget is set
    error_code: str | None = None
    error: str | None = None
    remedy: str | None = None  # what a person can do about the error
    attempts: list[Attempt] = []  # the newest that have ended, oldest first
    reached: list[Reached] = []  # in an explanation, for those who may know: the first of each attempt
    reached_left_out: dict[int, int] = {}  # attempt → contacts beyond those
    items: list[InboxItem] = []
    context: list[Message] = []  # what else was said in the channel lately
    posts: list[Message] = []  # what this turn has posted so far, in whichever attempt


class Claim(Response):
    turn: Turn | None = None
    reason: str = ""  # why there is none
    retry_in_seconds: float | None = None


class FinishTurn(Request):
    """End a turn: post its reply, acknowledge its items and close it, in one transaction. Repeating it is harmless."""

    unaudited = frozenset({"reply"})
    id: Id
    reply: Body | None = Field(default=None, description="Absent, empty or HEARTBEAT_OK posts nothing.")
    usage: Usage = Usage()
    session_id: Key | None = None


class FailTurn(Request):
    """Hand a turn back: it rests and is tried again, or its items are dead and the channel is told why."""

    unaudited = frozenset({"detail"})
    told = frozenset({"code", "permanent"})
    id: Id
    code: Word
    detail: Line = ""
    retry_in_seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    permanent: bool = False
    usage: Usage = Usage()


class RenewTurn(Request):
    """Keep a running turn for another lease; wait until the turn is over or the agent shall not work."""

    id: Id
    lease_seconds: LeaseSeconds = 60
    wait: Wait = 0


class Lease(Response):
    lease_until: datetime
    status: Status  # of the agent: anything but healthy asks the turn to come to an end


class StopTurn(Request):
    """End a running or resting turn for good; what it was to answer can be retried. Repeating it is harmless."""

    id: Id


class GetTurn(Request):
    """Show one turn with its items and posts."""

    id: Id


class ListTurns(Request):
    """List the newest turns, newest first."""

    agent: Username | None = None
    limit: Limit = 20


class Turns(Response):
    turns: list[Turn]


# --- explanations


class ExplainMessage(Request):
    """Say what became of a message: who was woken and why, how each turn went, and what it cost."""

    id: Id


class Retry(Response):
    """Somebody had an agent handle a message once more."""

    at: datetime
    by: str
    outcome: str  # how the message had ended before
    turn_id: int | None = None  # in which turn


class Fate(Response):
    """What a message is to one receiver: why they got it, and how that ended."""

    item_id: int
    receiver: str
    receiver_kind: Kind
    trigger: Trigger
    created_at: datetime
    outcome: Outcome | None = None  # absent: it waits
    acked_at: datetime | None = None
    not_before: datetime | None = None
    attempts: int = 0
    turn_id: int | None = None
    retries: list[Retry] = []
    waits_for: str = ""  # while it waits: why, in words


class Explanation(Response):
    """Bodies but that of the message itself are cut."""

    message: Message
    fates: list[Fate] = []
    left_out: int = 0  # further receivers
    turns: list[Turn] = []  # without items; those of the fates, and the one in which the message was posted
    answers: list[Message] = []  # what the message answers, if it is an answer
    notes: list[str] = []  # why somebody was not woken


# --- agents


class ListAgents(Request):
    """List the agents with their state."""


class Agent(Response):
    username: str
    owner: str | None = None  # the person who may pause, resume and limit it, besides administrators
    status: Status
    status_note: str = ""
    last_seen_at: datetime | None = None
    held_until: datetime | None = None
    inbox: int = 0
    oldest_item_at: datetime | None = None
    silent_since: datetime | None = None  # it should report, and does not
    overdue_since: datetime | None = None  # it should work, and something has waited for too long
    turn_id: int | None = None  # the turn that runs, as the four below
    turn_channel: str | None = None
    turn_attempt: int | None = None
    working_since: datetime | None = None
    contact_lost_at: datetime | None = None  # the turn's lease ran out: its process is gone, or can't reach the colony
    turns_today: int = 0  # each attempt counts
    turns_this_hour: int = 0
    turns_per_hour: int | None = None  # its own limits; None: only the colony's
    cost_usd_today: float = 0.0
    budget_usd_per_day: float | None = None
    posts_per_turn: int = 10


class Allowance(Response):
    """What all agents together have used, and may use."""

    turns_this_hour: int
    turns_per_hour: int | None  # None: no limit
    cost_usd_today: float
    budget_usd_per_day: float | None


class Agents(Response):
    agents: list[Agent]
    colony: Allowance | None = None


class Heartbeat(Request):
    """Say that an agent lives, and wait until something is due or its status is no longer the one it knows."""

    agent: Username
    wait: HeartbeatWait = 0
    status: Status | None = Field(default=None, description="The status that the caller knows; absent: don't wait for changes.")
    busy: bool = Field(default=False, description="A turn is running: wait only for a change of status.")


class Outlook(Response):
    """What a heartbeat hears."""

    status: Status
    status_note: str = ""
    due: bool  # a claim would return a turn now


class SetStatus(Request):
    """Move an agent to another state: provisioning, healthy, paused, draining or dead."""

    told = frozenset({"status"})
    agent: Username
    status: Status
    note: Line = ""


class SetOwner(Request):
    """Say to which person an agent belongs; without one, to nobody but administrators."""

    agent: Username
    owner: Username | None = None


class SetLimits(Request):
    """Limit what an agent may use; what is not given stays as it is. An agent that waits for a new day or hour goes on."""

    agent: Username
    budget_usd_per_day: UsdPerDay | None = Field(default=None, description="In UTC days.")
    turns_per_hour: TurnsPerHour | None = Field(default=None, description="Each attempt counts.")
    posts_per_turn: PostsPerTurn | None = Field(default=None, description="Besides the reply.")
    lift: Literal["budget_usd_per_day", "turns_per_hour", "all"] | None = Field(default=None, description="A limit to take away.")


# --- events


class ListEvents(Request):
    """Show what happened, oldest first: every message, and what else was done. Over HTTP also as a stream of server-sent events."""

    since: Position | None = Field(default=None, description="Only what came after this position, an event's id; absent: the newest.")
    limit: Limit = 50
    wait: Wait = 0


class Deed(Response):
    """An operation that succeeded; of what it was asked only what concerns everybody."""

    operation: str
    actor: str | None = None
    target: str = ""
    turn_id: int | None = None
    fields: dict[str, Any] = {}


class Event(Response):
    id: str  # the position just after it
    kind: EventKind
    at: datetime
    message: Message | None = None
    deed: Deed | None = None


class Events(Response):
    position: str  # where to go on
    events: list[Event]


# --- egress: what leaves the agents' sandboxes for the network


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

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]  # a UUID that is the contact's for ever
    linux_user: Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=64)]
    host: Annotated[str, AfterValidator(_storable), Field(max_length=255)]  # as it was asked for: what was denied may be no host at all
    port: Annotated[int, Field(ge=0, le=65_535)]
    verdict: ContactVerdict
    reason: Annotated[str, AfterValidator(_storable), Field(max_length=200)] = ""
    sent_bytes: Count = 0
    received_bytes: Count = 0
    began_at: Moment
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    kind: ContactKind


class RecordEgress(Request):
    """Keep what agents reached or tried to reach. Repeating it is harmless: what is known by its id is passed over."""

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


# --- failures


class Problem(Response):
    """An error, as RFC 9457 problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
