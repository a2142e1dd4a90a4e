"""Who has which role."""

from __future__ import annotations

from colony import errors, operations, schema
from server.gate import ACL, Call, handles
from server.grants import take_back
from server.models import acl, user


@handles(operations.ROLES)
def roles(call: Call, request: schema.ListRoles) -> schema.Roles:
    return schema.Roles(members=acl.members(call.connection))


@handles(operations.JOIN_ROLE)
def join_role(call: Call, request: schema.JoinRole) -> schema.Roles:
    found = user.find(call.connection, request.username)
    if found.status == "dead":
        raise errors.Conflict(f"{request.username} has left the colony")
    acl.join(call.connection, request.role, found.id)
    call.wake(ACL)
    return _of(call, request.role)


@handles(operations.LEAVE_ROLE)
def leave_role(call: Call, request: schema.LeaveRole) -> schema.Roles:
    acl.leave(call.connection, request.role, user.find(call.connection, request.username).id)
    take_back(call.connection)
    call.wake(ACL)
    return _of(call, request.role)


def _of(call: Call, role: str) -> schema.Roles:
    return schema.Roles(members=[member for member in acl.members(call.connection) if member.role == role])
