"""The commands of `colony acl`: who may do what, and why."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import click

from colony import errors, operations, schema, show
from colony.command_line import Group
from colony.commands import Caller, command, examples, plain
from colony.patience import repeated

WHO = "PRINCIPAL is a user, `agents`, `apes`, `gateways`, `services`, or role:NAME."
WHAT = "ACTION is an operation like `post`, tool:NAME for what agents ask for within a turn, tool:* or * (quote it for the shell)."
WHERE = "SCOPE is channel:NAME or #NAME, agent:NAME or @NAME, channel:*, agent:*, or * which it is where none is given."
_NOUNS = {"#": "channel:", "@": "agent:"}


@click.group("acl", cls=Group)
def group() -> None:
    """Say who may do what, and see why."""


@click.group("role", cls=Group)
def roles() -> None:
    """Give several users what rows say of role:NAME."""


def _scope(context: click.Context, parameter: click.Parameter, text: str) -> str:
    return f"{_NOUNS[text[0]]}{text[1:]}" if text[:1] in _NOUNS else text


_in_scope = click.argument("scope", default="*", callback=_scope)


def _sets(effect: schema.Effect, summary: str, *lines: str) -> click.Command:
    help = f"{summary}\n\n{WHO}\n\n{WHAT}\n\n{WHERE}\n\nIt takes the place of the row that they have for that action and scope."
    help += examples(*lines)

    @command(operations.SET_ACL, "principal", "action", name=effect, without=("scope", "effect"), help=help)
    @_in_scope
    def run(caller: Caller, **fields: Any) -> None:
        row = repeated(partial(caller.call, operations.SET_ACL, effect=effect, **fields))
        caller.show(row)
        if effect == "hold":
            _tell_if_denied(caller, row)

    return run


def _tell_if_denied(caller: Caller, row: schema.AclRow) -> None:
    """Say so where a hold has taken the place of what allowed it, or nothing ever did."""
    action = row.action.removeprefix("tool:")
    asked = operations.OPERATIONS.get(action)
    with suppress(errors.ColonyError):  # who is a kind or a role has no verdict
        found = caller.call(operations.EXPLAIN_ACL, user=row.principal, action=row.action, scope=row.scope)
        if found.effect == "deny" and not found.row and asked and asked.is_tool:
            ways = [
                f"`colony acl {said} {row.scope}`" for said in (f"allow {row.principal} {action}", f"hold {row.principal} tool:{action}")
            ]
            show.note(f"it is denied rather than held, since no row allows it: {ways[0]}, then {ways[1]}")


@command(operations.DROP_ACL, "principal", "action", name="forget", without=("scope",), help=f"{operations.DROP_ACL.summary}\n\n{WHERE}")
@_in_scope
def forget(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.DROP_ACL, **fields))
    show.note("this row is gone")


WHY = f"{operations.EXPLAIN_ACL.summary}\n\n{WHAT} egress:HOST[:PORT] asks the egress rules.\n\n{WHERE}" + examples(
    "colony acl why scout post '#general'",
    "colony acl why scout egress:pypi.org",
)


@command(operations.EXPLAIN_ACL, "user", "action", name="why", without=("scope",), help=WHY)
@_in_scope
def why(caller: Caller, **fields: Any) -> None:
    found = caller.call(operations.EXPLAIN_ACL, **fields)
    caller.show(found)
    if found.scope == "*" and found.reason == "no row allows it":
        show.note("this was asked of everything at once; give a SCOPE to ask of one channel or agent, as in '#general'")


for each in (
    plain(operations.ACL, "principal", name="list"),
    _sets("allow", "Allow somebody an action.", "colony acl allow scout post '#news'", "colony acl allow scout events"),
    _sets("deny", "Deny somebody an action, whatever else allows it.", "colony acl deny agents post '#announcements'"),
    _sets(
        "hold",
        "Have a person approve what somebody is allowed, each time: see `colony approvals`.",
        "colony acl allow scout post '#news'",
        "colony acl hold scout tool:post '#news'",
    ),
    forget,
    why,
    roles,
):
    group.add_command(each)

for each in (
    plain(operations.ROLES, name="list"),
    plain(operations.JOIN_ROLE, name="add"),
    plain(operations.LEAVE_ROLE, name="rm"),
):
    roles.add_command(each)
