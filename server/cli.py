"""`colony-server`: run the server and bring its schema up to date; its other commands are found here, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from colony import command_line, config, failures, release
from server import secret_commands, settings, storage_commands, user_commands

DUE = 10  # the exit code of `migrate --check` where there is something to do
HOST_COMMANDS = ("install", "uninstall")

TURN_USD_HELP = "The most that one turn may cost, where the agent or the colony has a budget."


@click.group(cls=command_line.Group)
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    show_default=f"{settings.HOST_FILE} for root and the user colony",
    help="A file with defaults for these options.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="$COLONY_HOME, /var/lib/colony as root or colony, ~/.local/share/colony otherwise",
    help="Where the colony keeps its data.",
)
@click.option(
    "--database", metavar="URL", envvar="COLONY_DATABASE", show_envvar=True, help="An SQLAlchemy URL; default: colony.db in the home."
)
@click.version_option(release.version(), prog_name="colony-server")
@click.pass_context
def cli(context: click.Context, file: Path | None, home: Path | None, database: str | None) -> None:
    """The colony's server."""
    if context.invoked_subcommand in HOST_COMMANDS:
        return
    from server.database import sqlite_url

    named = settings.file(file, home)
    found = settings.read(named, cli) if named else {}
    context.default_map = found
    context.obj = database or found.get("database") or sqlite_url((home or config.home()).absolute() / "colony.db")


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=config.DEFAULT_PORT, show_default=True, help="On 127.0.0.1; 0: none.")
@click.option("--socket", type=click.Path(path_type=Path), default=config.socket_path, help="For local callers; else where `colony` looks.")
@click.option("--threads", type=click.IntRange(8, 10_000), default=1200, show_default=True, help="Must exceed the clients that wait.")
@click.option("--max-running-turns", type=click.IntRange(1), default=32, show_default=True)
@click.option("--budget-usd-per-day", type=click.FloatRange(0), help="What all agents together may spend in a day of UTC.")
@click.option("--turns-per-hour", type=click.IntRange(0), help="How many turns all agents together may begin in an hour.")
@click.option("--turn-usd", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help=TURN_USD_HELP)
@click.option(
    "--first-backoff",
    metavar="SECONDS",
    type=click.FloatRange(0.1, failures.MAX_BACKOFF_SECONDS),
    default=failures.FIRST_BACKOFF_SECONDS,
    show_default=True,
    help="How long a turn rests after its first failure; twice as long after each further one, at most 1 h.",
)
@click.option("--overdue-seconds", type=click.IntRange(1), default=600, show_default=True, help="After which wait #ops is told of it.")
@click.pass_obj
def run(
    database: str,
    port: int,
    socket: Path,
    threads: int,
    max_running_turns: int,
    budget_usd_per_day: float | None,
    turns_per_hour: int | None,
    turn_usd: float,
    first_backoff: float,
    overdue_seconds: int,
) -> None:
    """Serve until SIGTERM. A new database is set up first."""
    from server import access, process
    from server.config import ServerConfig
    from server.models.agent import Patience
    from server.models.claim import Terms
    from server.models.limits import Limits

    access.make_folder(database)
    access.hold(database)  # for as long as this process lives
    access.set_up(database)
    terms = Terms(max_running_turns, Limits(budget_usd_per_day, turns_per_hour), turn_usd, first_backoff)
    share, patience = threads // process.SHARE, Patience(overdue_seconds=overdue_seconds)
    serving = ServerConfig(database, terms, max_streams=share, max_waits=share, patience=patience)
    process.serve(serving, process.Listen(socket.absolute(), port, threads))


@cli.command()
@click.pass_obj
def check_settings(database: str) -> None:
    """Say whether the server could begin with these settings. Nothing is opened or changed."""
    from server import access
    from server.database import sqlite_path

    sqlite_path(database)
    click.echo(f"the settings can be used; the database is {access.shown(database)}")


@cli.command()
@click.option("--check", is_flag=True, help=f"Change nothing, and exit {DUE} if there is something to do.")
@click.pass_obj
def migrate(database: str, check: bool) -> None:
    """Bring the database's schema up to date. Harmless to repeat; the server must be stopped when there is something to do."""
    from server import access, migrations

    found = access.revision(database) if check else access.upgrade(database)
    is_due = found != migrations.HEAD
    click.echo(f"{access.shown(database)}: " + (f"{found or 'new'} → {migrations.HEAD}" if is_due else "up to date"))
    if check and is_due:
        sys.exit(DUE)


def _of_the_host(name: str, help: str) -> click.Command:
    @click.command(name, help=help, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def passed_on(arguments: tuple[str, ...]) -> None:
        os.execv(sys.executable, [sys.executable, "-P", "-m", "provisioning", name, *arguments])  # the server itself changes no machine

    return passed_on


for command in (
    *user_commands.COMMANDS,
    *storage_commands.COMMANDS,
    *secret_commands.COMMANDS,
    _of_the_host("install", "Make this machine a host of agents, or bring it up to date. As root."),
    _of_the_host("uninstall", "Take the colony off this machine; its data stay unless --purge. As root."),
):
    cli.add_command(command)


def main() -> None:
    """Run the command; whatever refuses it is one line on stderr."""
    os.umask(0o077)  # the database is nobody else's
    command_line.run(cli, "colony-server")
