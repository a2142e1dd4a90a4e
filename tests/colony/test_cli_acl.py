"""`colony acl` against the real house."""

from __future__ import annotations

import pytest

from colony import errors, operations, schema
from colony.client import Client
from tests.colony.cast import Said, Shell
from tests.server.cast import token_of

ANN = token_of("ann")


@pytest.fixture
def robin(run: Shell, channel: str) -> str:
    """An agent that is ann's."""
    name = f"robin-{abs(hash(channel)) % 10**6}"
    run.house.call(operations.CREATE_USER, username=name, kind="agent", owner="ann")
    return name


def test_rows_are_set_listed_explained_and_forgotten(run: Shell, robin: str, channel: str) -> None:
    said = run("acl", "allow", f"@{robin}", "read", f"#{channel}", token=ANN)
    assert said == Said(0, f"{robin} allow read channel:{channel}\n", "")
    assert run("acl", "deny", robin, "tool:*", token=ANN) == Said(0, f"{robin} deny tool:* *\n", "")
    granted = run("acl", "allow", robin, "post", "channel:*", "--grant-option")
    assert granted.out == f"{robin} allow post channel:* (may pass it on)\n"
    listed = [line.split("\t") for line in run("acl", "list", robin).out.splitlines()]
    assert listed[0] == ["principal", "effect", "action", "scope", "grant_option", "granted_by", "granted_at"]
    assert [line[:6] for line in listed[1:]] == [
        [robin, "allow", "post", "channel:*", "yes", "colony"],
        [robin, "allow", "read", f"channel:{channel}", "no", "ann"],
        [robin, "deny", "tool:*", "*", "no", "ann"],
    ]
    assert "agents\tdeny\ttool:watch\t*\tno\t\t\n" in run("acl", "list", robin, "--defaults").out
    why = run("acl", "why", f"@{robin}", "read", f"#{channel}", token=ANN)
    assert why == Said(0, f"{robin} may read channel:{channel}: {robin} allow read channel:{channel} (by ann)\n", "")
    assert run("acl", "why", robin, "tool:read", f"channel:{channel}").out.startswith(f"{robin} may not tool:read ")
    assert run("acl", "why", robin, "events").out == f"{robin} may not events: no row allows it\n"
    assert run("acl", "why", robin, "egress:pypi.org").out == f"{robin} may not egress:pypi.org: no rule allows it\n"
    gone = run("acl", "forget", robin, "read", f"#{channel}", token=ANN)
    assert gone == Said(0, f"{robin} allow read channel:{channel}\n", "colony: this row is gone\n")
    assert run("acl", "forget", robin, "read", f"#{channel}", token=ANN).code == errors.NotFound.exit_code


def test_who_may_not_is_told_which_row_says_so(run: Shell, channel: str) -> None:
    said = run("read", channel, token=token_of("scout"))
    assert said == Said(errors.Forbidden.exit_code, "", f"colony: scout may not read channel:{channel}: no row allows it\n")
    run("acl", "deny", "bob", "post", f"#{channel}")
    said = run("post", channel, "hello", token=token_of("bob"))
    assert said.err == f"colony: bob may not post channel:{channel}: bob deny post channel:{channel} (by colony)\n"


def test_a_held_call_is_seen_approved_and_made(run: Shell, robin: str, channel: str) -> None:
    token = run.house.call(operations.ISSUE_TOKEN, username=robin).token
    run.house.call(operations.SET_STATUS, agent=robin, status="healthy")
    assert run("acl", "hold", robin, "create-channel", token=ANN).code == errors.Invalid.exit_code
    assert run("acl", "hold", robin, "create_channel", token=ANN).out == f"{robin} hold create_channel *\n"
    name, other = f"r{channel}"[:40], f"s{channel}"[:40]
    said = run("create-channel", name, token=token)
    assert (said.code, said.out) == (errors.Held.exit_code, "")
    number = said.err.split()[3].removeprefix("#")
    assert said.err == f"colony: held as #{number} until an ape approves it; ask again then\n"
    held = next(line.split("\t") for line in run("approvals", token=ANN).out.splitlines() if line.startswith(f"{number}\t"))
    assert held[1:5] == ["pending", robin, "create_channel", f'{{"name": "{name}"}}']
    said = run("approve", number, token=ANN)
    assert said.out.startswith(f"#{number} is approved by ann, until 20")
    assert said.out.endswith(f': {robin} asks to create_channel {{"name": "{name}"}}\n')
    assert said.err == f"colony: {robin} is not told; mention it, and it can ask again\n"
    assert run("create-channel", other, token=token).code == errors.Held.exit_code
    assert run("create-channel", name, token=token).code == 0
    why = run("acl", "why", robin, "create_channel")
    assert why.out == f"{robin} may create_channel once a person approves it: {robin} hold create_channel * (by ann)\n"
    assert run("refuse", number, token=ANN).code == errors.Conflict.exit_code


def test_who_approves_is_told_that_the_agent_hears_of_it(run: Shell, robin: str, channel: str) -> None:
    token = run.house.call(operations.ISSUE_TOKEN, username=robin).token
    run.house.call(operations.SET_STATUS, agent=robin, status="healthy")
    assert run("acl", "hold", robin, "create_channel", token=ANN).code == 0
    assert run("post", channel, f"@{robin} open one", token=ANN).code == 0
    turn = run.house.call(operations.CLAIM, token).turn
    with Client(run.house.url, token, f"{turn.id}.{turn.attempt}") as inside, pytest.raises(errors.Held) as held:
        inside.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=f"t{channel}"[:40]))
    said = run("approve", held.value.detail.split()[2].removeprefix("#"), token=ANN)
    assert (said.code, said.err) == (0, f"colony: {robin} is told in the channel where it asked\n")


def test_roles_are_given_and_taken(run: Shell, robin: str) -> None:
    role = f"r-{robin}"
    assert run("acl", "role", "add", role, f"@{robin}").out == f"role\tusername\n{role}\t{robin}\n"
    assert f"{role}\t{robin}\n" in run("acl", "role", "list", token=ANN).out
    assert run("acl", "role", "add", role, "ann", token=ANN).code == errors.Forbidden.exit_code
    assert run("acl", "role", "rm", role, robin).out == ""


def test_a_verdict_on_everything_at_once_says_how_to_ask_of_one_place(run: Shell, robin: str) -> None:
    assert "give a SCOPE to ask of one channel or agent" in run("acl", "why", robin, "post").err
    assert run("acl", "why", robin, "post", "#general").err == ""
    assert run("acl", "why", robin, "create_user").err == ""


def test_a_hold_that_takes_the_place_of_what_allowed_it_says_what_to_do_instead(run: Shell, robin: str, channel: str) -> None:
    place = f"channel:{channel}"
    for effect in ("allow", "hold"):
        said = run("acl", effect, robin, "post", place)
    assert said.err == (
        "colony: it is denied rather than held, since no row allows it: "
        f"`colony acl allow {robin} post {place}`, then `colony acl hold {robin} tool:post {place}`\n"
    )
    for effect, action in (("allow", "post"), ("hold", "tool:post")):
        assert run("acl", effect, robin, action, place).err == ""
    assert "once a person approves it" in run("acl", "why", robin, "tool:post", place).out
    assert run("acl", "hold", "agents", "post", place).err == ""
    for action in ("post", "tool:post"):
        run("acl", "forget", robin, action, place)
    run("acl", "forget", "agents", "post", place)


@pytest.mark.parametrize("id", ["77777", "#77777"])
def test_a_held_call_is_named_by_its_number_as_the_colony_tells_it(id: str, run: Shell) -> None:
    for command in ("approve", "refuse"):
        assert run(command, id, token=ANN).err == "colony: no approval 77777\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("allow scout egress:pypi.org", "action: 'egress:pypi.org' must be no host: what agents may reach is said with `colony egress`"),
        ("allow scout Post", "action: 'Post' must be an operation, tool:NAME, tool:* or *"),
        ("allow Scout post", "principal: 'Scout' must match"),
        ("deny scout post garden", "scope: 'garden' must be channel:NAME, agent:NAME, channel:*, agent:* or *"),
        ("allow scout pots", "action: there is no operation pots"),
    ],
)
def test_a_bad_argument_is_one_clear_line(words: str, complaint: str, run: Shell) -> None:
    said = run("acl", *words.split(), token=ANN)
    assert (said.code, said.out) == (errors.Invalid.exit_code, "")
    assert complaint in said.err
    assert said.err.count("\n") == 1
