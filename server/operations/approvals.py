"""What waits for a person's approval."""

from __future__ import annotations

from functools import partial

from colony import errors, operations, schema
from server import rights
from server.gate import Call, handles
from server.models import approval


@handles(operations.APPROVALS)
def approvals(call: Call, request: schema.ListApprovals) -> schema.Approvals:
    asks_for = partial(approval.listed, call.connection, call.viewer_id, call.now, request.limit, only_pending=not request.all)
    if not (call.caller.is_admin or call.caller.kind == "ape"):
        return schema.Approvals(approvals=asks_for(user_id=call.caller.id))
    unreadable = call.rights.unreadable(call.connection, call.caller, in_turn=call.turn is not None)
    return schema.Approvals(approvals=asks_for(unreadable=unreadable))


@handles(operations.APPROVE)
def approve(call: Call, request: schema.Approve) -> schema.Approval:
    _require_allowed(call, request.id)
    return _decide(call, request.id, "approved")


@handles(operations.REFUSE)
def refuse(call: Call, request: schema.Refuse) -> schema.Approval:
    _sought(call, request.id)
    return _decide(call, request.id, "refused")


def _sought(call: Call, id: int) -> tuple[str, str]:
    """The operation that is asked for, and its scope. Raises `NotFound`, also for what would be said where the caller may not read."""
    action, scope, call.room = approval.sought(call.connection, id, call.viewer_id)
    noun, _, name = scope.partition(":")
    if noun == "channel" and not call.may_read_in(name):
        raise errors.NotFound(f"no approval {id}")
    return action, scope


def _require_allowed(call: Call, id: int) -> None:
    """Raises `Forbidden` for who may not do themselves what they would approve; what they may with an approval, they may."""
    action, scope = _sought(call, id)
    if action not in operations.OPERATIONS:
        raise errors.Conflict(f"#{id} asks for {action}, which is no operation of this release")
    decision = call.rights.decision(call.connection, call.caller, action, scope, in_turn=False)
    if decision.effect == "deny" and not call.caller.is_admin:
        why = rights.reason(decision)
        raise errors.Forbidden(f"#{id} is not yours to approve: you may not {action} there yourself: {why}")


def _decide(call: Call, id: int, state: schema.ApprovalState) -> schema.Approval:
    if call.caller.kind != "ape" and not call.caller.is_admin:
        raise errors.Forbidden(f"people approve and refuse; {call.caller.username} is of kind {call.caller.kind}")
    found, posted = approval.decide(call.connection, id, state, call.caller.id, call.viewer_id, call.now)
    call.announce(posted)
    return found
