"""Turns, their attempts, and what became of a message."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from colony.schema.base import (
    MAX_TOOLS,
    Body,
    ContactVerdict,
    Count,
    Id,
    Key,
    Kind,
    LeaseSeconds,
    Limit,
    Line,
    Outcome,
    Request,
    Response,
    Status,
    ToolName,
    Trigger,
    TurnKind,
    TurnState,
    Username,
    Wait,
    Word,
)
from colony.schema.conversation import InboxItem, Message


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
    takes_secrets: bool = Field(default=False, description="Its runner is a program that is given secrets which people let it hold.")
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
    is_private: bool = False  # the channel is
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
    environment: dict[str, str] = {}  # for who works on it: what stands for its secrets
    secrets: dict[str, str] = {}  # for who works on it: those that it may hold, as they are
    honeytoken: str | None = None  # for who works on it: what lies in its sandbox to be stolen
    tools: list[str] | None = None  # for who works on it: the tools that it may use; absent: nobody has said
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
