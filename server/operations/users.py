"""Who is here."""

from __future__ import annotations

from colony import operations, schema
from server.gate import Call, handles
from server.models import user


@handles(operations.WHOAMI)
def whoami(call: Call, request: schema.Whoami) -> schema.User:
    return user.to_schema(user.find(call.connection, call.caller.username), is_admin=call.caller.is_admin)


@handles(operations.USERS)
def users(call: Call, request: schema.ListUsers) -> schema.Users:
    return schema.Users(users=user.listed(call.connection, request.kind))


@handles(operations.CREATE_USER)
def create_user(call: Call, request: schema.CreateUser) -> schema.User:
    created = user.create(call.connection, request, call.caller.id, call.now)
    call.wake("identities")
    return created


@handles(operations.ISSUE_TOKEN)
def issue_token(call: Call, request: schema.IssueToken) -> schema.Token:
    token = user.issue_token(call.connection, request.username)
    call.wake("identities")
    return schema.Token(username=request.username, token=token)
