"""Who may do what, decided from rows alone: any deny wins, what no row allows is denied, and of the rest a hold wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from colony import schema
from colony.schema import OWN, AclRow

EVERYWHERE = "*"  # the scope of what is done to no channel and no agent; a pattern that says so means all scopes
TOOL = "tool:"  # before an operation's name: what an agent asks for within its turn
COMMONS = "general"  # the channel that is everyone's


def _allowed(principal: str, scope: str, *actions: str) -> tuple[AclRow, ...]:
    return tuple(AclRow(principal=principal, action=action, scope=scope, effect="allow") for action in actions)


_IN_CHANNELS = ("read", "post", "explain", "retry")
_ABOUT_THE_COLONY = ("whoami", "users", "channels", "agents", "turns")
_ABOUT_RULES = ("egress_rules", "secrets", "acl", "explain_acl", "roles", "approvals")
DEFAULTS: tuple[AclRow, ...] = (
    *(row for kind in ("apes", "gateways") for row in _allowed(kind, EVERYWHERE, "*")),
    *_allowed("services", EVERYWHERE, "whoami"),
    *_allowed("agents", EVERYWHERE, *_ABOUT_THE_COLONY, *_ABOUT_RULES, "ack", "create_channel", "watch", "unwatch"),
    *_allowed("agents", f"channel:{OWN}", *_IN_CHANNELS, "members", "leave", "remove_member"),
    *_allowed("agents", f"channel:{COMMONS}", *_IN_CHANNELS),
    *_allowed("agents", f"agent:{OWN}", "inbox", "turn", "egress_log"),
    # What it watches it may read: so that is for its host to say, at birth and with its soul, and not for whoever writes to it.
    AclRow(principal="agents", action=f"{TOOL}watch", scope=EVERYWHERE, effect="deny"),
)


@dataclass(frozen=True)
class Decision:
    effect: schema.Effect
    row: AclRow | None = None  # which decides; None: no row allows it


_STRONGEST_FIRST: tuple[schema.Effect, ...] = ("deny", "hold", "allow")


def decide(rows: Iterable[AclRow], principals: frozenset[str], actions: Iterable[str], scopes: Iterable[str]) -> Decision:
    """What the rows say of somebody who is all these principals, of a deed and a target that have all these names."""
    actions, scopes = tuple(actions), tuple(scopes)
    found = (row for row in rows if row.principal in principals and _any(row.action, actions) and _any(row.scope, scopes))
    first: dict[str, AclRow] = {}
    for row in found:
        first.setdefault(row.effect, row)
    if "deny" not in first and "allow" not in first:
        return Decision("deny")
    effect = next(effect for effect in _STRONGEST_FIRST if effect in first)
    return Decision(effect, first[effect])


def covers(pattern: str, name: str) -> bool:
    """Whether the pattern means this name, or all that this pattern means: a `*` is any last segment, with all that follows it."""
    return pattern in ("*", name) or (pattern.endswith(":*") and name.startswith(pattern[:-1]))


def may_pass_on(rows: Iterable[AclRow], wanted: AclRow, *, needs_grant: bool) -> bool:
    """Whether somebody, of whom the rows are, is allowed all that the wanted row would allow, and denied nothing of it.

    `needs_grant`: by one row that may be passed on.
    """
    is_allowed = False
    for row in rows:
        if row.effect == "allow":
            is_allowed |= carries(row, wanted) and (row.grant_option or not needs_grant)
        elif _meet(bare(row.action), bare(wanted.action)) and _meet(_wide(row.scope), _wide(wanted.scope)):
            return False
    return is_allowed


def carries(row: AclRow, wanted: AclRow) -> bool:
    """Whether the one row, which allows something, allows all that the wanted one would."""
    is_wide = covers(row.action, wanted.action) or covers(row.action, bare(wanted.action))
    return is_wide and covers(row.scope, wanted.scope)


def bare(action: str) -> str:
    """The operation that is meant, whoever asks for it."""
    return action.removeprefix(TOOL)


def _any(pattern: str, names: tuple[str, ...]) -> bool:
    return any(covers(pattern, name) for name in names)


def _meet(one: str, other: str) -> bool:
    return covers(one, other) or covers(other, one)


def _wide(scope: str) -> str:
    """One's own may be any."""
    return scope.replace(OWN, "*")
