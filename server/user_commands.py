"""The commands of `colony-server` that look after users and their tokens, with the database alone: no server needs to run."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING, get_args

import click

from colony import schema, show
from colony.command_line import Group
from colony.commands import build

if TYPE_CHECKING:
    from sqlalchemy import Connection


@click.group(cls=Group)
def user() -> None:
    """The colony's users. A running server knows of a change within seconds; `sudo colony …` tells it at once."""


@user.command("list")
@click.option("--kind", type=click.Choice(get_args(schema.Kind)), help="Only these.")
@click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def list_users(database: str, kind: schema.Kind | None, is_json: bool) -> None:
    """List everyone: who they are, how they come in, to whom they belong. Those who have left are dead."""
    from server import access
    from server.models import user as users

    with access.ready(database) as opened, opened.read() as connection:
        show.show(schema.Users(users=users.listed(connection, kind)), is_json)


@user.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(get_args(schema.Kind)), default="ape", show_default=True)
@click.option("--linux-user", help="The Linux user who is this user on the local socket.")
@click.option("--owner", help=schema.CreateUser.model_fields["owner"].description)
@click.pass_obj
def add(database: str, name: str, kind: schema.Kind, linux_user: str | None, owner: str | None) -> None:
    """Add a person, an agent or a service."""
    from server import access
    from server.models import base
    from server.models import user as users

    request = build(schema.CreateUser, {"username": name, "kind": kind, "linux_user": linux_user, "owner": owner})
    created = access.write(database, lambda connection: users.create(connection, request, base.now()))
    click.echo(f"{created.username} ({created.kind}) added")
    if linux_user and not _is_here(linux_user):
        show.note(f"this machine has no Linux user {linux_user}: whoever gets that name speaks as {created.username}")


@user.command()
@click.argument("name")
@click.pass_obj
def remove(database: str, name: str) -> None:
    """Let a person, a gateway or a service leave. What they said stays, and their name can be given again."""
    from server import access, grants
    from server.models import base, departure

    def leave(connection: Connection) -> None:
        departure.depart(connection, name, base.now())
        grants.take_back(connection)

    access.write(database, leave)
    click.echo(f"{name} has left the colony")


@click.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Make none: only take away the one that there is.")
@click.pass_obj
def token(database: str, name: str, revoke: bool) -> None:
    """Make a new token for a user and print it, once; the one before stops working."""
    from server import access
    from server.models import user as users

    if revoke:
        access.write(database, lambda connection: users.revoke_token(connection, name))
        click.echo(f"{name} has no token any more")
    else:
        click.echo(access.write(database, lambda connection: users.issue_token(connection, name)))


def _is_here(linux_user: str) -> bool:
    try:
        return bool(pwd.getpwnam(linux_user))
    except KeyError:
        return False


COMMANDS = (user, token)
