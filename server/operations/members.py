"""Who is in private channels."""

from __future__ import annotations

from sqlalchemy import Row

from colony import errors, operations, schema
from server.gate import Call, handles
from server.models import member
from server.operations.channels import entered, require_person
from server.operations.turns import wake_next


@handles(operations.MEMBERS)
def members(call: Call, request: schema.ListMembers) -> schema.Members:
    return member.listed(call.connection, _private(call, request.channel))


@handles(operations.INVITE)
def invite(call: Call, request: schema.InviteMembers) -> schema.Members:
    room = _private(call, request.channel)
    require_person(call, "invite others")
    call.announce(member.invite(call.connection, room.name, request.usernames, call.author, call.now))
    return member.listed(call.connection, room)


@handles(operations.LEAVE)
def leave(call: Call, request: schema.LeaveChannel) -> schema.Member:
    return _part(call, _private(call, request.channel), call.caller.username)


@handles(operations.REMOVE_MEMBER)
def remove_member(call: Call, request: schema.RemoveMember) -> schema.Member:
    room = _private(call, request.channel)
    if request.username != call.caller.username:
        require_person(call, "remove others")
    return _part(call, room, request.username)


def _part(call: Call, room: Row[tuple[object, ...]], username: str) -> schema.Member:
    parted, leaver_id, notices = member.part(call.connection, room.name, username, call.author, call.now)
    call.announce(notices)
    wake_next(call, leaver_id)
    return parted


def _private(call: Call, name: str) -> Row[tuple[object, ...]]:
    """Raises `NotFound` for a channel that is not there for the caller, and `Conflict` for a public one."""
    found = entered(call, name)
    if not found.is_private:
        raise errors.Conflict(f"{name} is public: everybody reads and writes there; `colony create-channel NAME --private` opens another")
    return found
