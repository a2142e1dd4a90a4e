"""How agents are, and what they may use."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from colony.schema.base import HeartbeatWait, Line, PostsPerTurn, Request, Response, Status, TurnsPerHour, UsdPerDay, Username


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
    """Say to which person an agent belongs; without one, to nobody but administrators.

    What the owner before has said about it, and the secrets that they have set for it, are gone then.
    """

    agent: Username
    owner: Username | None = None


class SetLimits(Request):
    """Limit what an agent may use; what is not given stays as it is. An agent that waits for a new day or hour goes on."""

    agent: Username
    budget_usd_per_day: UsdPerDay | None = Field(default=None, description="In UTC days.")
    turns_per_hour: TurnsPerHour | None = Field(default=None, description="Each attempt counts.")
    posts_per_turn: PostsPerTurn | None = Field(default=None, description="Besides the reply.")
    lift: Literal["budget_usd_per_day", "turns_per_hour", "all"] | None = Field(default=None, description="A limit to take away.")
