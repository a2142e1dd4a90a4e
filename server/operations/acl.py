"""Who may do what: who is told so, and who says so."""

from __future__ import annotations

from functools import partial

from colony import egress, errors, operations, schema
from colony.operations import OPERATIONS
from colony.schema import KINDS, AclRow, AclVerdict
from server.gate import ACL, Call, handles
from server.grants import take_back
from server.identity import Caller
from server.judgement import DEFAULTS, TOOL, bare, may_pass_on
from server.models import acl as acl_model
from server.models import channel, user
from server.models import egress as egress_model
from server.operations.channels import entered
from server.rights import NEVER_HELD, UNJUDGED, reason, require_kind

EGRESS = "egress:"


@handles(operations.ACL)
def acl(call: Call, request: schema.ListAcl) -> schema.Acl:
    rows = (*(DEFAULTS if request.defaults else ()), *acl_model.rows(call.connection))
    if request.principal is not None:
        meant = _all_names(call, request.principal)
        rows = tuple(row for row in rows if row.principal in meant)
    hidden = {f"channel:{name}" for name in channel.hidden(call.connection, call.viewer_id)}
    return schema.Acl(rows=[row for row in rows if row.scope not in hidden])


@handles(operations.SET_ACL)
def set_acl(call: Call, request: schema.SetAcl) -> AclRow:
    _require_known(call, request)
    wanted = AclRow(**request.model_dump())
    _require_unclaimed(call, acl_model.find(call.connection, request))
    _require_authority(call, wanted)
    acl_model.put(call.connection, request, call.caller.id, call.now, is_bounded=not call.caller.is_admin)
    take_back(call.connection)
    call.wake(ACL)
    return wanted.model_copy(update={"granted_by": call.caller.username, "granted_at": call.now})


@handles(operations.DROP_ACL)
def drop_acl(call: Call, request: schema.DropAcl) -> AclRow:
    _enter(call, request.scope)
    found = acl_model.find(call.connection, request)
    if found is None:
        asked = f"principal {request.principal}, action {request.action} and scope {request.scope}"
        raise errors.NotFound(f"no row for {asked}; `colony acl list` shows those there are")
    _require_unclaimed(call, found)
    acl_model.drop(call.connection, request)
    take_back(call.connection)
    call.wake(ACL)
    return found


@handles(operations.EXPLAIN_ACL)
def explain_acl(call: Call, request: schema.ExplainAcl) -> AclVerdict:
    verdict = partial(AclVerdict, user=request.user, action=request.action, scope=request.scope)
    _enter(call, request.scope)
    found = user.find(call.connection, request.user)
    if found.status == "dead":
        return verdict(effect="deny", reason=f"{request.user} has left the colony")
    if request.action.startswith(EGRESS):
        may, why = _reaches(call, request.user, request.action.removeprefix(EGRESS))
        return verdict(effect="allow" if may else "deny", reason=why)
    operation = OPERATIONS.get(bare(request.action))
    if operation is None:
        raise errors.Invalid(f"action: there is no operation {bare(request.action)}; there are {', '.join(OPERATIONS)}")
    who = Caller(found.id, found.username, found.kind, is_peer=True)  # as which they can do most
    try:
        require_kind(operation, who)
    except errors.Forbidden as error:
        return verdict(effect="deny", reason=error.detail)
    if operation.who in UNJUDGED:
        return verdict(effect="allow", reason=f"it {UNJUDGED[operation.who]}")
    in_turn = request.action.startswith(TOOL)
    decision = call.rights.decision(call.connection, who, operation.name, request.scope, in_turn=in_turn)
    return verdict(effect=decision.effect, reason=reason(decision), row=decision.row)


def _reaches(call: Call, agent: str, target: str) -> tuple[bool, str]:
    """Whether an agent may reach a host, and why: the egress rules are the only ones about hosts. Raises `Invalid`, `NotFound`."""
    try:
        host, ports = egress.split(target)
        name = egress.normal(host)
    except ValueError as error:
        raise errors.Invalid(f"action: {error}") from error
    rules = egress_model.listed(call.connection, user.find_agent(call.connection, agent).id)
    verdict = egress.decide(rules, name, (ports or [443])[0])
    return verdict.is_allowed, verdict.reason


def _all_names(call: Call, principal: str) -> frozenset[str]:
    """The principal, and for a user all that they are besides. Raises `NotFound`."""
    if principal in KINDS or principal.startswith(acl_model.ROLE):
        return frozenset({principal})
    try:
        found = user.find(call.connection, principal)
    except errors.NotFound as error:
        raise errors.NotFound(f"no principal {principal}: no user, kind or role:NAME") from error
    return call.rights.law(call.connection).principals(Caller(found.id, found.username, found.kind))


def _require_known(call: Call, request: schema.SetAcl) -> None:
    """A row about what is misspelt would do nothing, and nobody would notice. Raises `Invalid`, `NotFound` and `Conflict`."""
    action = bare(request.action)
    if action != "*" and action not in OPERATIONS:
        raise errors.Invalid(f"action: there is no operation {action}; there are {', '.join(OPERATIONS)}")
    if action != "*" and OPERATIONS[action].who in UNJUDGED:
        raise errors.Invalid(f"action: {action} {UNJUDGED[OPERATIONS[action].who]}")
    if request.effect == "hold" and action != "*" and not OPERATIONS[action].mutates:
        raise errors.Invalid(f"action: {action} changes nothing, and only what does is held; deny it instead")
    if request.effect == "hold" and action in (each.name for each in NEVER_HELD):
        raise errors.Invalid(f"action: {action} is never held, or nobody could end it; deny it instead")
    noun, _, name = request.scope.partition(":")
    if noun == "agent" and name not in ("*", schema.OWN) and user.find(call.connection, name).status == "dead":
        raise errors.Conflict(f"{name} has left the colony")
    _enter(call, request.scope)
    principal = request.principal
    if principal not in KINDS and not principal.startswith(acl_model.ROLE) and user.find(call.connection, principal).status == "dead":
        raise errors.Conflict(f"{principal} has left the colony")  # and whoever is given the name would have this row


def _enter(call: Call, scope: str) -> None:
    """Raises `NotFound` where the scope is a channel that is not there for the caller."""
    noun, _, name = scope.partition(":")
    if noun == "channel" and name not in ("*", schema.OWN):
        entered(call, name)


def _require_unclaimed(call: Call, there: AclRow | None) -> None:
    """Raises `Forbidden` for a row that somebody else has set, perhaps under the same name; administrators apart."""
    if there is None or call.caller.is_admin:
        return
    since = user.find(call.connection, call.caller.username).created_at
    if there.granted_by != call.caller.username or (there.granted_at and there.granted_at < since):
        raise errors.Forbidden(f"{there.granted_by} has set `{there}`: they and administrators change it")


def _require_authority(call: Call, row: AclRow) -> None:
    """Raises `Forbidden` for who may not set this row.

    The owner of an agent decides who does what to it, and denies it what they like; what its owner may do themselves they may allow
    it. Others pass on what they have been given to pass on.
    """
    caller, connection = call.caller, call.connection
    if caller.is_admin:
        return
    if row.scope.startswith("agent:") and acl_model.owns(connection, caller.id, row.scope.removeprefix("agent:")):
        return
    is_mine = acl_model.owns(connection, caller.id, row.principal)
    if is_mine and row.effect != "allow":
        return
    mine = call.rights.law(connection).of(caller)
    if row.effect != "allow" or not may_pass_on(mine, row, needs_grant=not is_mine or row.grant_option):
        raise errors.Forbidden(f"you may not set `{row}`: you own no such agent, and may not pass that on; administrators may")
