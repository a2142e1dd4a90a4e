"""What the commands of a command line share: how a help text lists them, and how they fail."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import NoReturn

import click

from colony import errors

INTERRUPTED = 130  # what a shell reports after SIGINT


class Group(click.Group):
    """A group of commands whose help cuts no sentence off."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self._headings: dict[str, str] = {}

    def add_below(self, heading: str, commands: Iterable[click.Command]) -> None:
        """Add commands that are listed below this heading."""
        for each in commands:
            self.add_command(each)
            self._headings[each.name or ""] = heading

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(context, name)) for name in self.list_commands(context)]
        rows = [(self._headings.get(name, "Commands"), name, _summary(each)) for name, each in found if each and not each.hidden]
        widest = max((len(name) for _, name, _ in rows), default=0)
        for heading in dict.fromkeys(heading for heading, _, _ in rows):
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(widest), said) for below, name, said in rows if below == heading])


def run(group: click.Group, program: str) -> NoReturn:
    """Run the command that is asked for, and exit: whatever refuses it is one line on stderr."""
    try:
        sys.exit(group.main(prog_name=program, standalone_mode=False) or 0)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"{program}: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except errors.ColonyError as error:
        click.echo(f"{program}: {error.detail}", err=True)
        sys.exit(error.exit_code)


def _summary(command: click.Command) -> str:
    """Its first sentence."""
    text = " ".join((command.short_help or (command.help or "").partition("\n\n")[0]).split())
    return re.split(r"(?<=\.)\s", text)[0]
