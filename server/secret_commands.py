"""The commands of `colony-server secret-key`: the keys under which secrets lie in the database."""

from __future__ import annotations

import click

from colony import errors
from colony.command_line import Group


@click.group("secret-key", cls=Group)
def group() -> None:
    """The keys under which secrets lie in the database."""


@group.command()
@click.pass_obj
def rotate(database: str) -> None:
    """Seal all secrets with a new key, and forget the former ones. Safe to repeat after an interruption; the server goes on meanwhile.

    What is held for approval is to be asked for anew.
    """
    from server import access, keyring
    from server.models import approval, secret

    file = keyring.place(database)
    with access.ready(database) as opened:
        ring = keyring.add_key(file)  # on the disk before anything is sealed with it
        count = opened.write(lambda connection: secret.reseal(connection, ring))
        opened.write(approval.end_everybody_s)
        with opened.read() as connection:
            in_use = secret.keys_in_use(connection)
    keyring.keep_only(file, in_use)
    click.echo(f"{count} {'secret is' if count == 1 else 'secrets are'} sealed with the new key {ring.newest}")


@group.command()
@click.pass_obj
def check(database: str) -> None:
    """Say whether all secrets can be opened. Nothing is changed."""
    from server import access, keyring
    from server.models import secret

    file = keyring.place(database)
    with access.ready(database) as opened, opened.read() as connection:
        lost = secret.lost(connection, keyring.load(file))
    if lost:
        raise errors.Unavailable(f"secrets can't be opened by {file}: {'; '.join(lost)}")
    click.echo(f"all secrets can be opened by {file}")


COMMANDS = (group,)
