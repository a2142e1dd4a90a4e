"""`colony-agent`: what runs an agent on its machine."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import ClassVar, cast

import click

from colony import command_line, errors, lifeline, pipe, release
from colony_agent import bytecode, entry, settings

KILL_MARGIN_SECONDS = 150  # on top of a turn's own limit: to deliver an earlier answer and this one while the server restarts

_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("HOME", ".")),
    show_default="$HOME",
    help="The agent's home folder.",
)


class _Commands(command_line.Group):
    """Commands that people give are imported when they are given: a worker starts with none of them."""

    ELSEWHERE: ClassVar = {
        "birth": "birth_commands",
        "death": "birth_commands",
        "status": "life_commands",
        "logs": "life_commands",
        "pause": "life_commands",
        "resume": "life_commands",
        "drain": "life_commands",
        "restart": "life_commands",
        "upgrade": "life_commands",
        "backup": "life_commands",
        "memory": "memory_commands",
        "doctor": "doctor_commands",
        "credential": "credential_commands",
        "soul": "soul_commands",
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.ELSEWHERE, *self.commands]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if module := self.ELSEWHERE.get(name):
            return cast("click.Command", getattr(import_module(f"colony_agent.{module}"), name))
        return super().get_command(context, name)

    def invoke(self, context: click.Context) -> None:
        try:
            with pipe.to_its_end():
                super().invoke(context)
        except OSError as error:
            raise errors.Unavailable(str(error)) from error


@click.group(cls=_Commands)
@click.version_option(release.version(), prog_name="colony-agent")
def cli() -> None:
    """Agents on this machine."""


@cli.command()
@_home
def worker(home: Path) -> None:
    """Wait for the agent's inbox and run its turns, until SIGTERM. This is the agent's service."""
    from colony_agent import worker as script

    found = settings.load(home.absolute())
    orders = {
        "agent": found.agent.name,
        "url": found.colony.url,
        "token": found.colony.token,
        "turn_argv": entry.turn_argv(found.path),
        "turn_deadline_seconds": found.agent.turn_timeout_seconds + KILL_MARGIN_SECONDS,
        "pulse_seconds": found.agent.pulse_minutes * 60,
        "heartbeat_file": str(found.path / "heartbeat.md"),
    }
    lifeline.adopt_orphans()
    # A fresh interpreter, without site-packages: all that was imported to read the settings is gone again.
    descriptor = os.memfd_create("orders", 0)
    os.write(descriptor, json.dumps(orders).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(bytecode.script(script)), str(descriptor)])


@cli.command()
@_home
@click.option("--pulse", is_flag=True, help="A pulse, as heartbeat.md tells.")
def turn(home: Path, pulse: bool) -> None:
    """Do the agent's next turn, if something is due. Exits 75 if there is nothing to do."""
    from colony_agent import turn as turns

    sys.exit(turns.run(settings.load(home.absolute()), "pulse" if pulse else "answer"))


@cli.command()
@click.argument("name", required=False)
@_home
@click.option("--now", is_flag=True, help="Let the agent NAME of this machine dream in its service, now, and say how it went.")
@click.option("--if-new", is_flag=True, help="Only if its memory or its diary have changed since the last dream.")
def dream(name: str | None, home: Path, now: bool, if_new: bool) -> None:
    """Let the agent compact its memory. Exits 75 while a turn of it runs, and when there is nothing to do."""
    if name or now:
        from colony_agent import life_commands

        sys.exit(life_commands.dream_now(name, now))
    from colony_agent import turn as turns

    sys.exit(turns.run(settings.load(home.absolute()), "dream", if_new=if_new))


@cli.command(hidden=True)
@_home
@click.argument("message")
def keep(home: Path, message: str) -> None:
    """Commit the home's texts to its history; `soul set` has the agent do that."""
    from colony_agent import repository

    repository.commit(settings.sealed(settings.load(home.absolute())), message)


def main() -> None:
    """Run the command; a `ColonyError`, or words that are no command, become one line on stderr and an exit code."""
    entry.ended(_run)


def _run() -> int:
    try:
        return cli.main(prog_name="colony-agent", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        raise errors.Invalid(error.format_message()) from error
    except click.Abort:
        return command_line.INTERRUPTED
