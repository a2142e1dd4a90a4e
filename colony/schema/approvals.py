"""What somebody wanted to do that a person has to agree with first."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from colony.schema.base import Id, Limit, Request, Response

ApprovalState = Literal["pending", "approved", "refused", "used", "expired"]


class Approval(Response):
    id: int
    user: str
    operation: str
    arguments: str  # JSON, without what differs from call to call
    turn_id: int | None = None  # in which it was asked for first, or last in one that has a channel
    state: ApprovalState
    asked_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    expires_at: datetime  # until then the question, the approval or the refusal counts
    asker_is_told: bool = False  # of the decision, in the channel of their turn


class ListApprovals(Request):
    """List the calls that wait for a person's approval, newest first: all of them for people, their own for others."""

    all: bool = Field(default=False, description="Also those that were decided, used or have expired.")
    limit: Limit = 50


class Approvals(Response):
    approvals: list[Approval]


class Approve(Request):
    """Let a call that is held be made: once, with these arguments, within a day. Repeating it is harmless."""

    id: Id


class Refuse(Request):
    """Refuse a call that is held; within a day it is not asked for again. Repeating it is harmless."""

    id: Id
