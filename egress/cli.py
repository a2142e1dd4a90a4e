"""`colony-egress`: run the gate."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from colony import errors, release
from egress import settings


@click.group()
@click.version_option(release.version(), prog_name="colony-egress")
def cli() -> None:
    """The egress gate: what agents may reach, and the way there."""


@cli.command()
@click.option(
    "--settings",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    show_default=f"{settings.HOST_FILE}, if it is there",
    help="A TOML file.",
)
def run(file: Path | None) -> None:
    """Serve until SIGTERM."""
    from egress import resolver, service
    from egress.systemd import Systemd

    os.environ.update(resolver.NO_SEARCH)  # what is asked for is what was judged, and not a name of the host's domain
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    service.run(settings.load(file), Systemd())


def main() -> None:
    """Run the command; a `ColonyError` becomes one line on stderr and its exit code."""
    try:
        cli(prog_name="colony-egress")
    except errors.ColonyError as error:
        click.echo(f"colony-egress: {error.detail}", err=True)
        sys.exit(error.exit_code)
