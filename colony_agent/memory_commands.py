"""`colony-agent memory NAME`: how an agent's memory came to be what it is, and the way back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from colony import errors, show
from colony.command_line import Group

if TYPE_CHECKING:
    from colony_agent.settings import Home


@click.group(cls=Group)
@click.argument("name")
@click.pass_context
def memory(context: click.Context, name: str) -> None:
    """What an agent of this machine remembers: its history, and the way back."""
    context.obj = name


@memory.command()
@click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def log(name: str, is_json: bool) -> None:
    """List the changes of the memory, newest first."""
    from colony_agent import memory as memories

    def tell(home: Home) -> None:
        commits = memories.log(home)
        if is_json:
            print(json.dumps([{"id": each.id, "at": each.at.isoformat(), "subject": each.subject} for each in commits]))
        else:
            show.write([show.Table(("commit", "at", "subject"), [(each.id[:12], each.at, each.subject) for each in commits])])

    _as_agent(name, tell)


@memory.command()
@click.argument("revision", default="HEAD")
@click.pass_obj
def diff(name: str, revision: str) -> None:
    """Show what has changed in the memory since REVISION; HEAD is the newest commit."""
    from colony_agent import memory as memories

    _as_agent(name, lambda home: print(memories.diff(home, revision), end=""))


@memory.command()
@click.argument("revision")
@click.pass_obj
def revert(name: str, revision: str) -> None:
    """Make the memory what it was at REVISION; the present one is kept in memory/dreams."""
    from colony_agent import memory as memories

    _as_agent(name, lambda home: memories.revert(home, revision))
    click.echo(f"{name} remembers what it did at {revision}")


def _as_agent(name: str, work: Callable[[Home], None]) -> None:
    """In a process of the agent's own: whatever lies in its home, it can do no more than the agent may."""
    from colony_agent import settings
    from provisioning import facts, places, record, stepdown

    facts.require_root()
    if record.read(record.checked_name(name)) is None:
        raise errors.NotFound(f"no agent {name} lives on this machine; `colony-agent status` lists who does")

    def there() -> None:
        work(settings.sealed(settings.load(places.HOMES / name)))
        sys.stdout.flush()

    stepdown.as_user(name, there)
