"""What waits for a person's approval."""

from __future__ import annotations

from colony import errors, operations, schema
from server import rights
from server.gate import Call, handles
from server.models import approval


@handles(operations.APPROVALS)
def approvals(call: Call, request: schema.ListApprovals) -> schema.Approvals:
    user_id = None if call.caller.is_admin or call.caller.kind == "ape" else call.caller.id
    found = approval.listed(call.connection, user_id, call.viewer_id, call.now, request.limit, only_pending=not request.all)
    return schema.Approvals(approvals=found)


@handles(operations.APPROVE)
def approve(call: Call, request: schema.Approve) -> schema.Approval:
    _require_allowed(call, request.id)
    return _decide(call, request.id, "approved")


@handles(operations.REFUSE)
def refuse(call: Call, request: schema.Refuse) -> schema.Approval:
    return _decide(call, request.id, "refused")


def _require_allowed(call: Call, id: int) -> None:
    """Raises `Forbidden` for who may not do themselves what they would approve; what they may with an approval, they may."""
    action, scope = approval.sought(call.connection, id, call.viewer_id)
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
