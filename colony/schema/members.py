"""Who is in a private channel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from colony.schema.base import ChannelName, Kind, Request, Response, Username

MAX_INVITED = 100  # at once


class ListMembers(Request):
    """List the members of a private channel."""

    channel: ChannelName


class Member(Response):
    username: str
    kind: Kind
    added_by: str  # the creator of a channel has added themselves
    added_at: datetime


class Members(Response):
    channel: str
    members: list[Member]


class InviteMembers(Request):
    """Let others into a private channel; they can read what was said before, too. Repeating it is harmless."""

    told = frozenset({"usernames"})
    channel: ChannelName
    usernames: Annotated[list[Username], Field(min_length=1, max_length=MAX_INVITED)]


class LeaveChannel(Request):
    """Leave a private channel; who is in it can invite you again."""

    channel: ChannelName


class RemoveMember(Request):
    """Take somebody out of a private channel. A turn of theirs that runs there ends; nothing of it reaches them any more."""

    channel: ChannelName
    username: Username
