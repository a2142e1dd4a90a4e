"""Who is here."""

from __future__ import annotations

from colony import errors, operations, schema
from server.gate import EGRESS, Call, handles
from server.grants import take_back
from server.models import departure, user


@handles(operations.WHOAMI)
def whoami(call: Call, request: schema.Whoami) -> schema.User:
    return user.show(call.connection, call.caller.username, is_admin=call.caller.is_admin)


@handles(operations.USERS)
def users(call: Call, request: schema.ListUsers) -> schema.Users:
    return schema.Users(users=user.listed(call.connection, request.kind))


@handles(operations.CREATE_USER)
def create_user(call: Call, request: schema.CreateUser) -> schema.User:
    created = user.create(call.connection, request, call.now)
    call.wake("identities", EGRESS)
    return created


@handles(operations.ISSUE_TOKEN)
def issue_token(call: Call, request: schema.IssueToken) -> schema.Token:
    if user.find(call.connection, request.username).token_hash:
        call.ask_again()
    return schema.Token(username=request.username, token=user.issue_token(call.connection, request.username))


@handles(operations.REVOKE_TOKEN)
def revoke_token(call: Call, request: schema.RevokeToken) -> schema.User:
    user.revoke_token(call.connection, request.username)
    call.ask_again()
    call.wake(EGRESS)
    return user.show(call.connection, request.username)


@handles(operations.REMOVE_USER)
def remove_user(call: Call, request: schema.RemoveUser) -> schema.User:
    if request.username == call.caller.username != user.COLONY:
        raise errors.Conflict(f"{request.username} is you; on the server's machine: colony-server user remove {request.username}")
    departure.depart(call.connection, request.username, call.now)
    take_back(call.connection)
    call.ask_again()
    call.wake(EGRESS)
    return user.show(call.connection, request.username)
