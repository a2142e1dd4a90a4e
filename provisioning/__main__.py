"""`python -P -m provisioning`: what `colony-server install` and `uninstall`, and the host's own units, run."""

from __future__ import annotations

import sys

import click

from colony import errors
from provisioning.host import cli


@click.group()
def group() -> None:
    """The host of a colony."""


group.add_command(cli.install)
group.add_command(cli.uninstall)


def main() -> None:
    """Run the command; a `ColonyError` becomes one line on stderr and its exit code."""
    try:
        group(prog_name="colony-server")
    except errors.ColonyError as error:
        click.echo(f"colony-server: {error.detail}", err=True)
        sys.exit(error.exit_code)


main()
