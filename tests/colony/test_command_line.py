"""What all our commands share: whole sentences in their help, and refusals of one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from colony import cli as colony_cli
from colony.command_line import Group
from colony_agent import cli as agent_cli
from server import cli as server_cli


def groups(command: click.Command) -> Iterator[click.Group]:
    if isinstance(command, click.Group):
        yield command
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner
            yield from groups(inner)


ALL = [group for top in (colony_cli.group, agent_cli.cli, server_cli.cli) for group in groups(top)]


@pytest.mark.parametrize("group", ALL, ids=lambda group: str(group.name))
def test_a_list_of_commands_cuts_no_sentence_off(group: click.Group) -> None:
    assert isinstance(group, Group)
    context = click.Context(group, terminal_width=80)
    formatter = click.HelpFormatter(width=80)
    group.format_commands(context, formatter)
    listed = formatter.getvalue()
    assert "..." not in listed
    commands = [group.get_command(context, name) for name in group.list_commands(context)]
    assert all(f"\n  {each.name}" in listed for each in commands if each and not each.hidden)


def test_the_many_commands_of_people_stand_below_headings() -> None:
    formatter = click.HelpFormatter(width=80)
    colony_cli.group.format_commands(click.Context(colony_cli.group), formatter)
    headings = [line for line in formatter.getvalue().splitlines() if line and not line.startswith(" ")]
    assert headings == [f"{heading}:" for heading in colony_cli.COMMANDS]
    assert not any("  Commands:" in line for line in headings)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["frob"], "No such command 'frob'."),
        (["user", "add"], "Missing argument 'NAME'."),
        (["user", "add", "ann", "--kind", "boss"], "Invalid value for '--kind'"),
        (["install", "--frob"], "No such option '--frob'."),
        (["--config", "/nowhere.toml", "check-settings"], "there is no /nowhere.toml"),
    ],
)
def test_what_the_server_s_command_refuses_is_one_line(words: list[str], complaint: str) -> None:
    ran = subprocess.run([sys.executable, "-m", "server", *words], capture_output=True, text=True, check=False)
    assert ran.returncode in (2, 4)
    assert ran.stderr.startswith(f"colony-server: {complaint}")
    assert ran.stderr.count("\n") == 1


def test_the_server_s_command_alone_shows_its_help() -> None:
    ran = subprocess.run([sys.executable, "-m", "server"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("Usage: colony-server ")
