"""The commands of `colony secret`: what agents may use without holding it."""

from __future__ import annotations

import sys
from typing import Any

import click

from colony import errors, operations, show
from colony.command_line import Group
from colony.commands import Caller, command, examples, plain
from colony.egress_commands import tell_gateless

MOST = 8192 + 2  # bytes of a value: one too many, and a line end


@click.group("secret", cls=Group)
def group() -> None:
    """Let agents use tokens and passwords that they never hold: the gate puts them in."""


HOW = f"{operations.SET_SECRET.summary}\n\nThe value is read from stdin; on a terminal it is asked for, and not shown." + examples(
    "colony secret set GITHUB_TOKEN --agent scout --host api.github.com < token",
    "colony secret set KEY --agent scout --host api.example.org --header 'X-Api-Key: {}'",
)


@command(operations.SET_SECRET, "name", name="set", without=("value", "hosts"), help=HOW)
@click.option("--host", "hosts", metavar="HOST[:PORT]", multiple=True, help="To which it goes; may be given several times.")
def set_secret(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.SET_SECRET, **{**fields, "hosts": list(fields["hosts"])}, value=_value()))
    if fields["hosts"]:
        tell_gateless(caller, fields["agent"], "nobody puts this in for it")


@command(operations.DROP_SECRET, "name", name="rm")
def drop(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.DROP_SECRET, **fields))
    show.note("this secret is gone")


def _value() -> str:
    if sys.stdin is None:
        raise errors.Invalid("there is no stdin to read the value from")
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, err=True))
    return sys.stdin.buffer.read(MOST).decode(errors="replace").rstrip("\r\n")


for each in (set_secret, plain(operations.SECRETS, name="list"), drop):
    group.add_command(each)
