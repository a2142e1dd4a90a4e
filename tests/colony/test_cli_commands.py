"""Every operation for people has a command, and every command the same manners."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import httpx
import pytest

from colony import cli, client, errors, operations
from tests.colony.cast import Said, Shell
from tests.server.cast import token_of

ANN = token_of("ann")


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, those within groups, too."""
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from commands(each, *above, name)
        else:
            yield " ".join((*above, name)), each


COMMANDS = dict(commands(cli.group))
RENAMED = {
    "issue_token": "token", "set_status": "pause", "set_limits": "limits", "egress_rules": "egress list", "set_egress": "egress allow",
    "drop_egress": "egress forget", "egress_log": "egress log", "secrets": "secret list", "set_secret": "secret set",
    "drop_secret": "secret rm", "remove_member": "remove", "acl": "acl list", "set_acl": "acl allow", "drop_acl": "acl forget",
    "explain_acl": "acl why", "roles": "acl role list", "join_role": "acl role add", "leave_role": "acl role rm",
}  # fmt: skip


def test_every_operation_for_users_has_a_command() -> None:
    for operation in operations.OPERATIONS.values():
        if operation.who not in ("agent", "gate"):
            assert RENAMED.get(operation.name, operation.name.replace("_", "-")) in COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"login", "prove"}))
def test_every_command_offers_json(name: str) -> None:
    assert "--json" in [option for parameter in COMMANDS[name].params for option in parameter.opts]


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"prove"}))  # that one replaces the process
def test_every_command_explains_itself(name: str, run: Shell) -> None:
    said = run(*name.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: colony {name} ")


EXAMPLES = [line for each in COMMANDS.values() for line in re.findall(r"^  (colony .+)$", each.help or "", re.MULTILINE)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_that_can_be_sent(example: str, run: Shell) -> None:
    class Strict(client.Client):
        def call(self, operation: Any, request: Any) -> Any:
            raise errors.Forbidden(operation.name)

    said = run(
        *shlex.split(example.partition(" < ")[0], comments=True)[1:], stdin=b"a-long-value", connect=lambda _: Strict("unix:/nowhere")
    )
    assert said.code == errors.Forbidden.exit_code, said.err


def test_what_seals_an_agent_has_examples() -> None:
    assert {" ".join(example.split()[1:3]) for example in EXAMPLES} >= {"egress allow", "egress deny", "secret set", "acl hold", "acl why"}


@pytest.mark.parametrize("error", errors.BY_CODE.values(), ids=list(errors.BY_CODE))
def test_every_error_is_one_line_and_its_exit_code(error: type[errors.ColonyError], run: Shell) -> None:
    class Failing(client.Client):
        def call(self, operation: Any, request: Any) -> Any:
            raise error("it is\nso \x1b[31m")

    said = run("channels", connect=lambda settings: Failing(settings.url))
    assert said == Said(error.exit_code, "", "colony: it is so \\x1b[31m\n")


@pytest.mark.parametrize(
    "command",
    ["whoami", "channels", "read {channel}", "inbox", "users", "agents", "turns", "turns @scout", "turn {turn}", "explain {id}", "events"],
)
def test_json_is_exactly_the_operation_s_response(command: str, run: Shell, channel: str) -> None:
    posted = json.loads(run("post", channel, "to @ann and @scout", "--json").out)["id"]
    turn = run.house.call(operations.CLAIM, token_of("scout"), take_over=True).turn
    words = command.format(channel=channel, turn=turn.id, id=posted).split()
    operation = operations.OPERATIONS[words[0]]
    path = operation.path.format(channel=channel, id=words[-1]) + ("?agent=scout" if words[1:] == ["@scout"] else "")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(run.house.socket)), base_url="http://colony") as http:
        answer = http.get(path, headers={"Authorization": f"Bearer {ANN}", "Accept": "application/json"}).json()
    assert json.loads(run(*words, "--json", token=ANN).out) == answer
