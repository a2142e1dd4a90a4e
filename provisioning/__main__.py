"""`python -P -m provisioning`: what `colony-server install` and `uninstall`, and the host's own units, run."""

from __future__ import annotations

import click

from colony import command_line
from provisioning.host import cli


@click.group()
def group() -> None:
    """The host of a colony."""


group.add_command(cli.install)
group.add_command(cli.uninstall)


command_line.run(group, "colony-server")
