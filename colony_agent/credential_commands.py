"""`colony-agent credential`: what agents need to prove themselves to the model's API."""

from __future__ import annotations

import sys

import click

from colony.command_line import Group

_agent = click.option("--agent", help="Only for this agent; else for all of them.")


@click.group(cls=Group)
def credential() -> None:
    """Keys of the model's API, encrypted on this machine; only the gate between agents and the network has them."""


@credential.command("set")
@click.argument("name")
@_agent
def set_(name: str, agent: str | None) -> None:
    """Keep a value: it is asked for, or read from stdin. Not an argument, which others could see."""
    from provisioning import credentials, facts, record
    from provisioning.host import gate

    facts.require_root()
    value = click.prompt(name, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read(credentials.MAX_BYTES + 1).strip()
    credentials.store(name, value, record.checked_name(agent) if agent else None)
    gate.renew()
    click.echo(f"{name} is kept, for {agent or 'all agents'}", err=True)


@credential.command("list")
def list_() -> None:
    """Name what is kept, and for whom; values are never shown."""
    from provisioning import credentials, facts

    facts.require_root()
    for agent, names in sorted(credentials.stored().items()):
        for name in names:
            click.echo(f"{name}\t{agent or 'all agents'}")


@credential.command("rm")
@click.argument("name")
@_agent
def remove(name: str, agent: str | None) -> None:
    """Forget a value."""
    from provisioning import credentials, facts
    from provisioning.host import gate

    facts.require_root()
    credentials.remove(name, agent)
    gate.renew()
    click.echo(f"{name} is forgotten, for {agent or 'all agents'}", err=True)
