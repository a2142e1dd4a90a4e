"""What each of them has to handle."""

from __future__ import annotations

from colony import errors, operations, schema
from server.gate import Call, Wait, handles
from server.models import inbox as inbox_model
from server.models import message, settle, user


@handles(operations.INBOX)
def inbox(call: Call, request: schema.ReadInbox) -> schema.Inbox | Wait:
    user_id = _whose(call, request.user)
    pending = inbox_model.pending(call.connection, user_id, request.trigger, request.limit)
    found = schema.Inbox(items=list(message.fitting(pending, lambda item: item.message)))
    if found.items or not request.wait:
        return found
    return Wait(("user", user_id), request.wait, found, lambda later: inbox(later, request))


@handles(operations.ACK)
def ack(call: Call, request: schema.AckInbox) -> schema.Acked:
    acked = inbox_model.ack(call.connection, call.caller.id, request.ids, call.now)
    if acked:
        settle.end_emptied(call.connection, call.caller.id, call.now)
    return schema.Acked(acked=acked)


def _whose(call: Call, username: str | None) -> int:
    if username is None or username == call.caller.username:
        return call.caller.id
    if not call.caller.is_admin:
        raise errors.NotFound(f"no user {username}, or not visible to you")
    return int(user.find(call.connection, username).id)
