"""May they? Asked by the gate about each call, with who calls and what it is done to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from colony import errors, schema
from colony.operations import APPROVE, OPERATIONS, POST, READ, REFUSE, Operation
from colony.schema import KINDS, OWN, AclRow
from server.identity import Caller
from server.judgement import DEFAULTS, EVERYWHERE, TOOL, Decision, covers, decide
from server.models import acl, approval, channel, message, turn

NEVER_HELD = (APPROVE, REFUSE)  # or nobody could end it
CACHE_SECONDS = 2.0  # how long a row that is gone may still count at another server; at this one it ends at once
NO_MESSAGE = "no such message, or not visible to you"
_NUMBERED: dict[str, tuple[str, Callable[[Connection, int, int], str | None]]] = {  # what is it about, and how that is found
    "message": ("channel", message.channel_of),
    "turn": ("agent", turn.agent_of),
    "approval": ("agent", approval.asker_of),
}
_KIND_WORDS = {kind: word for word, kind in KINDS.items()}


@dataclass(frozen=True)
class Law:
    """All rows at one moment."""

    rows: tuple[AclRow, ...]
    roles: Mapping[int, frozenset[str]]
    _about: dict[tuple[int, str, bool], tuple[tuple[AclRow, ...], Decision | None]] = field(default_factory=dict)

    def principals(self, who: Caller) -> frozenset[str]:
        """All that rows may call somebody."""
        return self.roles.get(who.id, frozenset()) | {who.username, _KIND_WORDS[who.kind]}

    def of(self, who: Caller) -> tuple[AclRow, ...]:
        """The rows that count for somebody."""
        found = [placed for principal in self.principals(who) for placed in self._placed.get(principal, ())]
        return tuple(row for _, row in sorted(found, key=itemgetter(0)))

    @cached_property
    def _placed(self) -> Mapping[str, list[tuple[int, AclRow]]]:
        """Each principal's rows, with their places among all."""
        found: dict[str, list[tuple[int, AclRow]]] = {}
        for place, row in enumerate(self.rows):
            found.setdefault(row.principal, []).append((place, row))
        return found

    def about(self, who: Caller, action: str, *, in_turn: bool) -> tuple[tuple[AclRow, ...], Decision | None]:
        """The rows about what somebody does; and the decision, where the target makes no difference."""
        key = who.id, action, in_turn
        if key not in self._about:
            names = _names(action, in_turn=in_turn)
            found = tuple(row for row in self.of(who) if any(covers(row.action, name) for name in names))
            if not OPERATIONS[action].mutates:  # to look at something need not be approved
                found = tuple(row for row in found if row.effect != "hold")
            is_plain = all(row.scope == EVERYWHERE for row in found) or {row.effect for row in found} == {"allow"}
            whole = decide(found, self.principals(who), names, [EVERYWHERE])
            self._about[key] = found, whole if is_plain and (whole.row or not found) else None
        return self._about[key]


class Rights:
    """Decides what callers may do, with rows that are remembered for a moment."""

    def __init__(self) -> None:
        self._kept: list[tuple[Law, float]] = []

    def forget(self) -> None:
        """Rows, roles or users have changed."""
        self._kept = []

    def law(self, connection: Connection) -> Law:
        kept = self._kept  # what is read before a `forget` must not be remembered after it
        if kept and kept[0][1] > monotonic():
            return kept[0][0]
        law = Law((*DEFAULTS, *acl.rows(connection)), acl.roles(connection))
        kept[:] = [(law, monotonic() + CACHE_SECONDS)]
        return law

    def require(
        self, connection: Connection, who: Caller, operation: Operation[Any, Any], request: schema.Request, *, in_turn: bool
    ) -> bool:
        """Whether the call needs a person's approval. Raises `Forbidden`, and `NotFound` for what the caller must not even learn of.

        Administrators may do everything. What keeps an agent's turns going is not judged: an agent is paused instead.
        """
        if who.is_admin or operation.who == "agent":
            return False
        rows, decision = self.law(connection).about(who, operation.name, in_turn=in_turn)
        if decision is None or decision.effect == "deny":
            scope = scope_of(connection, who, operation, request)
            decision = _decided(connection, who, operation.name, scope, rows, in_turn=in_turn)
            if decision.effect == "deny":
                raise _refused(connection, who, operation, scope, decision)
        return decision.effect == "hold" and operation not in NEVER_HELD

    def room(self, connection: Connection, who: Caller, operation: Operation[Any, Any], request: schema.Request) -> int | None:
        """The id of the private channel that a call is about."""
        scope = getattr(request, "scope", None) or scope_of(connection, who, operation, request)
        noun, _, name = scope.partition(":")
        return channel.private_id(connection, name) if noun == "channel" else None

    def reply_refusal(self, connection: Connection, who: Caller, channel_name: str, *, may_be_held: bool = False) -> str | None:
        """Why a turn's reply must not be posted in its channel; None if it may, or if it `may_be_held` and is."""
        scope = f"channel:{channel_name}"
        decision = self.decision(connection, who, POST.name, scope, in_turn=True)
        is_fine = decision.effect == "allow" or (may_be_held and decision.effect == "hold")
        return None if is_fine else refusal(who.username, POST.name, scope, decision)

    def decision(self, connection: Connection, who: Caller, action: str, scope: str, *, in_turn: bool) -> Decision:
        rows, _ = self.law(connection).about(who, action, in_turn=in_turn)
        return _decided(connection, who, action, scope, rows, in_turn=in_turn)

    def may_read(self, connection: Connection, who: Caller, channel_name: str, *, in_turn: bool) -> bool:
        """Whether somebody may see what is said in the channel, wherever it is shown."""
        return who.is_admin or self.decision(connection, who, READ.name, f"channel:{channel_name}", in_turn=in_turn).effect == "allow"

    def unreadable(self, connection: Connection, who: Caller, *, in_turn: bool) -> list[str]:
        """The channels of which somebody may see nothing."""
        _, whole = self.law(connection).about(who, READ.name, in_turn=in_turn)
        if who.is_admin or (whole and whole.effect == "allow"):
            return []
        return [name for name, _ in channel.numbered(connection) if not self.may_read(connection, who, name, in_turn=in_turn)]

    def tools(self, connection: Connection, who: Caller) -> list[str]:
        """The tools that some row lets the agent use somewhere, and none denies everywhere."""
        law = self.law(connection)
        usable = []
        for operation in OPERATIONS.values():
            rows = law.about(who, operation.name, in_turn=True)[0] if operation.is_tool else ()
            effects = {row.effect for row in rows if row.effect != "deny" or row.scope == EVERYWHERE}
            if "allow" in effects and "deny" not in effects:
                usable.append(operation.name)
        return usable


def require_kind(operation: Operation[Any, Any], caller: Caller) -> None:
    """What some kinds of users alone may do, no row opens to others. Raises `Forbidden`."""
    if operation.who == "admin" and not caller.is_admin:
        raise errors.Forbidden(f"{operation.name} is for administrators: call it on the server's machine as root or as its user")
    if operation.who == "agent" and caller.kind != "agent":
        raise errors.Forbidden(f"{operation.name} is for agents; {caller.username} is of kind {caller.kind}")
    if operation.who == "service" and caller.kind != "service" and not caller.is_admin:
        raise errors.Forbidden(f"{operation.name} is for services; {caller.username} is of kind {caller.kind}")


def _refused(
    connection: Connection, who: Caller, operation: Operation[Any, Any], scope: str, decision: Decision
) -> errors.Forbidden | errors.NotFound:
    noun = operation.scope[1] if operation.scope else ""
    if noun == "message":  # whose ids can be guessed
        return errors.NotFound(NO_MESSAGE)
    if noun == "inbox":
        return errors.NotFound(f"no user {scope.partition(':')[2]}, or not visible to you")
    if noun == "channel" and operation.name != "create_channel":
        channel.find(connection, scope.partition(":")[2], who.id)
    return errors.Forbidden(refusal(who.username, operation.name, scope, decision))


def refusal(username: str, action: str, scope: str, decision: Decision) -> str:
    """Why somebody may not, in one line that names the row."""
    where = "" if scope == EVERYWHERE else f" {scope}"
    return f"{username} may not {action}{where}: {reason(decision)}"


def reason(decision: Decision) -> str:
    row = decision.row
    if row is None:
        return "no row allows it"
    return f"{row} (by {row.granted_by})" if row.granted_by else f"{row} (by default)"


def _names(action: str, *, in_turn: bool) -> tuple[str, ...]:
    return (action, f"{TOOL}{action}") if in_turn else (action,)


def _decided(connection: Connection, who: Caller, action: str, scope: str, rows: tuple[AclRow, ...], *, in_turn: bool) -> Decision:
    principals, names = frozenset(row.principal for row in rows), _names(action, in_turn=in_turn)
    decision = decide(rows, principals, names, [scope])
    own = f"{scope.partition(':')[0]}:{OWN}"
    if decision.row is None:
        makes_a_difference = any(row.scope == own for row in rows)
    else:
        makes_a_difference = any(row.scope == own and row.effect not in ("allow", decision.effect) for row in rows)
    if makes_a_difference and _is_own(connection, who, scope):
        return decide(rows, principals, names, [scope, own])
    return decision


def _is_own(connection: Connection, who: Caller, scope: str) -> bool:
    noun, _, name = scope.partition(":")
    if noun == "channel":
        return acl.takes_part(connection, who.id, name)
    return name == who.username or acl.owns(connection, who.id, name)


def scope_of(connection: Connection, who: Caller, operation: Operation[Any, Any], request: schema.Request) -> str:
    """What it is done to, as rows name it. Raises `NotFound`."""
    if operation.scope is None:
        return EVERYWHERE
    name, noun = operation.scope
    given = getattr(request, name)
    if noun in _NUMBERED:
        whose, find = _NUMBERED[noun]
        found = find(connection, given, who.id)
        if found is None:
            raise errors.NotFound(NO_MESSAGE if noun == "message" else f"no {noun} {given}")
        return f"{whose}:{found}"
    if noun == "inbox":
        return f"agent:{given or who.username}"
    return EVERYWHERE if given is None else f"{noun}:{given}"
