"""The commands of `colony egress`: what agents may reach, and what they reached."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import click

from colony import egress, errors, operations, schema, show
from colony.command_line import Group
from colony.commands import Caller, command, examples
from colony.patience import repeated

WHICH_AGENT = "AGENT `agents` means all of them."
RULES_COUNT_FOR_NOTHING = "no rule holds it back"
WHICH_HOST = "HOST is a name, *.example.org for all names below it, an IP address, or * (quote it for the shell)."


@click.group("egress", cls=Group)
def group() -> None:
    """Say what agents may reach on the network, and see what they reached."""


def _sets(name: str, effect: schema.EgressEffect, summary: str, ports: str, *lines: str) -> click.Command:
    help = f"{summary}\n\n{WHICH_AGENT} {WHICH_HOST} {ports}\n\nIt takes the place of the rule that the agent has for that host."
    help += examples(*lines)

    @command(operations.SET_EGRESS, "agent", name=name, without=("effect", "host", "ports"), help=help)
    @_hosts("HOST[:PORT[,PORT]]...")
    def run(caller: Caller, hosts: tuple[str, ...], **fields: Any) -> None:
        for host, ports in [_split(text) for text in hosts]:
            caller.show(repeated(partial(caller.call, operations.SET_EGRESS, effect=effect, host=host, ports=ports, **fields)))
        tell_gateless(caller, fields["agent"], RULES_COUNT_FOR_NOTHING)

    return run


def _hosts(metavar: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.argument("hosts", metavar=metavar, nargs=-1, required=True)


@command(
    operations.DROP_EGRESS, "agent", name="forget", without=("host",), help=f"{operations.DROP_EGRESS.summary}\n\nHOST is as in the rule."
)
@_hosts("HOST...")
def forget(caller: Caller, hosts: tuple[str, ...], **fields: Any) -> None:
    for host in hosts:
        caller.show(caller.call(operations.DROP_EGRESS, host=host, **fields))
        show.note("this rule is gone")


@command(operations.EGRESS_RULES, "agent", name="list")
def rules(caller: Caller, agent: str | None) -> None:
    caller.show(caller.call(operations.EGRESS_RULES, agent=agent))
    tell_gateless(caller, agent, RULES_COUNT_FOR_NOTHING)


@command(operations.EGRESS_LOG, "agent", name="log", without=("limit",))
@click.option("-n", "--limit", type=click.INT, default=50, show_default=True, help="At most so many.")
def log(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.EGRESS_LOG, **fields))


WHY = f"Say whether an agent may reach a host, and which rule decides.\n\n{WHICH_AGENT} Without PORT it is 443."


@command(operations.EGRESS_RULES, name="why", without=("agent",), help=WHY)
@click.argument("agent")
@click.argument("host", metavar="HOST[:PORT]")
def why(caller: Caller, agent: str, host: str) -> None:
    """The gate refuses private addresses besides, which shows only once it has resolved the host."""
    name, ports = _split(host)
    with suppress(ValueError):  # which is the verdict then
        name = egress.normal(name)
    rules = caller.call(operations.EGRESS_RULES, agent=agent).rules
    for port in ports or [443]:
        verdict = egress.decide(rules, name, port)
        asked = {"agent": agent.removeprefix("@"), "host": name, "port": port}
        told = {"allowed": verdict.is_allowed, "reason": verdict.reason, "rule": verdict.rule}
        caller.show(schema.EgressVerdict.model_validate(asked | told))
    tell_gateless(caller, agent, RULES_COUNT_FOR_NOTHING)


def tell_gateless(caller: Caller, agent: str | None, so: str) -> None:
    """Say so where no gate knows the agent: it knows agents by their Linux users."""
    name = (agent or "").removeprefix("@")
    with suppress(errors.Forbidden):  # whom a row keeps from seeing who is there
        if any(user.username == name and not user.linux_user for user in caller.call(operations.USERS, kind="agent").users):
            show.note(f"{name} has no gate, since it has no Linux user: {so}")


def _split(text: str) -> tuple[str, list[int]]:
    try:
        return egress.split(text)
    except ValueError as error:
        raise errors.Invalid(str(error)) from error


for each in (
    _sets(
        "allow",
        "allow",
        "Allow an agent hosts.",
        "Without PORT it is 80 and 443.",
        "colony egress allow scout pypi.org '*.pythonhosted.org:443'",
    ),
    _sets(
        "deny",
        "deny",
        "Deny an agent hosts, whatever else allows them.",
        "Without PORT it is all ports.",
        "colony egress deny scout github.com",
        "colony egress deny agents '*'         # all that they reach but their model",
    ),
    forget,
    rules,
    log,
    why,
):
    group.add_command(each)
