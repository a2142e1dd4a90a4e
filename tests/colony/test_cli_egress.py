"""`colony egress` against the real house."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from colony import errors, operations
from tests.colony.cast import House, Said, Shell
from tests.server.cast import token_of

ANN = token_of("ann")


@pytest.fixture
def robin(run: Shell, channel: str) -> str:
    """An agent that has a Linux user and is ann's."""
    name = f"robin-{abs(hash(channel)) % 10**6}"
    run.house.call(operations.CREATE_USER, username=name, kind="agent", linux_user=name, owner="ann")
    return name


def record(house: House, linux_user: str, host: str, **more: Any) -> None:
    told = {"id": str(uuid4()), "linux_user": linux_user, "host": host, "port": 443, "verdict": "allowed", "kind": "connect"}
    house.call(operations.RECORD_EGRESS, contacts=[told | {"began_at": datetime.now(UTC)} | more])


def test_rules_are_set_listed_and_forgotten(run: Shell, robin: str) -> None:
    said = run("egress", "allow", f"@{robin}", "PyPI.org", "*.pythonhosted.org:443", token=ANN)
    assert said == Said(0, f"{robin}: allow pypi.org (ports 80, 443)\n{robin}: allow *.pythonhosted.org (port 443)\n", "")
    said = run("egress", "allow", robin, "[2001:db8::1]:8080,22")
    assert said == Said(0, f"{robin}: allow 2001:db8::1 (ports 22, 8080)\n", "")
    assert run("egress", "deny", robin, "evil.example", token=ANN).out == f"{robin}: deny evil.example (all ports)\n"
    listed = [line.split("\t") for line in run("egress", "list", robin).out.splitlines()]
    assert listed[0] == ["agent", "effect", "host", "ports", "set_by", "set_at"]
    mine = [line[:5] for line in listed if line[0] == robin]
    assert mine == [
        [robin, "allow", "*.pythonhosted.org", "443", "ann"],
        [robin, "allow", "2001:db8::1", "22,8080", "colony"],
        [robin, "deny", "evil.example", "all", "ann"],
        [robin, "allow", "pypi.org", "80,443", "ann"],
    ]
    gone = run("egress", "forget", robin, "pypi.org", "evil.example", token=ANN)
    assert gone.out == f"{robin}: allow pypi.org (ports 80, 443)\n{robin}: deny evil.example (all ports)\n"
    assert gone.err == "colony: this rule is gone\n" * 2
    assert run("egress", "forget", robin, "pypi.org", token=ANN) == Said(
        errors.NotFound.exit_code, "", f"colony: {robin} has no rule for the host pypi.org; `colony egress list` shows those there are\n"
    )


def test_the_rule_that_decides_is_told(run: Shell, robin: str) -> None:
    assert run("egress", "why", robin, "pypi.org") == Said(0, f"{robin} may not reach pypi.org:443: no rule allows it\n", "")
    run("egress", "allow", "agents", "pypi.org")
    assert run("egress", "why", robin, "PyPI.org.:443,22").out == (
        f"{robin} may reach pypi.org:443: agents allow pypi.org (ports 80, 443)\n{robin} may not reach pypi.org:22: no rule allows it\n"
    )
    assert run("egress", "why", "agents", "pypi.org").out == "agents may reach pypi.org:443: agents allow pypi.org (ports 80, 443)\n"
    run("egress", "deny", robin, "*", token=ANN)
    assert run("egress", "why", f"@{robin}", "pypi.org").out == f"{robin} may not reach pypi.org:443: {robin} deny * (all ports)\n"
    assert "the host must be ASCII" in run("egress", "why", robin, "pуpi.org").out
    answer = json.loads(run("egress", "why", robin, "pypi.org:443", "--json").out)
    assert (answer["allowed"], answer["rule"]["host"], answer["rule"]["agent"]) == (False, "*", robin)
    run("egress", "forget", "agents", "pypi.org")


def test_who_has_no_gate_is_held_back_by_no_rule_and_that_is_said(run: Shell, channel: str) -> None:
    name = f"rook-{abs(hash(channel)) % 10**6}"
    run.house.call(operations.CREATE_USER, username=name, kind="agent", owner="ann")
    for said in (("why", f"@{name}", "pypi.org"), ("allow", name, "pypi.org"), ("list", name)):
        told = run("egress", *said, token=ANN)
        assert (told.code, told.err) == (0, f"colony: {name} has no gate, since it has no Linux user: no rule holds it back\n")
        assert "pypi.org" in told.out
    for of_all in (("why", "agents", "pypi.org"), ("list",)):
        assert run("egress", *of_all, token=ANN).err == ""


def test_the_log_shows_what_an_agent_reached(run: Shell, robin: str) -> None:
    for number in range(3):
        record(run.house, robin, f"h{number}.example", sent_bytes=number, verdict="denied", reason="no rule allows it")
    said = run("egress", "log", robin, "-n", "2", token=ANN)
    head, *lines = [line.split("\t") for line in said.out.splitlines()]
    assert [dict(zip(head, line, strict=True))["host"] for line in lines] == ["h2.example", "h1.example"]
    newest = dict(zip(head, lines[0], strict=True))
    assert (newest["agent"], newest["verdict"], newest["sent_bytes"], newest["reason"]) == (robin, "denied", "2", "no rule allows it")
    assert run("egress", "log", robin, "--turn", "1", token=ANN) == Said(0, "", "colony: no connections\n")
    older = json.loads(run("egress", "log", robin, "--before", newest["id"], "--json", token=ANN).out)["contacts"]
    assert [entry["host"] for entry in older] == ["h1.example", "h0.example"]
    assert robin in run("egress", "log").out, "an administrator sees everyone's"


def test_an_explanation_shows_what_was_reached(run: Shell, robin: str, channel: str) -> None:
    run("resume", robin)
    run("post", channel, f"@{robin} hello", token=ANN)
    with run.house.client(run.house.call(operations.ISSUE_TOKEN, username=robin).token) as agent:
        turn = agent.call(operations.CLAIM, operations.CLAIM.request()).turn
    assert turn
    for _ in range(2):
        record(run.house, robin, "pypi.org", sent_bytes=600, received_bytes=50_000)
    for number in range(25):
        record(run.house, robin, f"h{number}.example", verdict="denied")
    lines = run("explain", f"{channel}#1", token=ANN).out.splitlines()
    at = lines.index("    attempt 1 runs")
    assert lines[at + 1] == "        allowed pypi.org:443 ×2, sent 1,200 bytes, received 100,000"
    assert lines[at + 2] == "        denied h0.example:443"
    assert lines[at + 21] == f"        and 6 more: colony egress log {robin} --turn {turn.id}"
    assert "denied" not in run("explain", f"{channel}#1", token=token_of("bob")).out
    command = lines[at + 21].partition("colony ")[2].split()
    assert len(run(*command, token=ANN).out.splitlines()) == 28


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["allow", "scout", "https://pypi.org/simple"], "'https://pypi.org/simple' is no host; give one like pypi.org, "),
        (["allow", "scout", "pypi.org:"], "'pypi.org:' is no host; give one like "),
        (["allow", "scout", "pypi.org:0"], "'pypi.org:0' is no host; give one like "),
        (["allow", "scout", "pypi.org:99999"], "'pypi.org:99999' is no host; give one like "),
        (["allow", "scout", "bücher.example"], "host: 'bücher.example' must be ASCII; an international name is written in its A-labels"),
        (["deny", "scout", "a.*.org"], "host: 'a.*.org' must have its star alone, or in front as in *.pythonhosted.org"),
        (["forget", "scout", "127.1"], "host: '127.1' must be a whole IP address if it ends in a number"),
        (["allow", "Scout", "pypi.org"], "agent: 'Scout' must match"),
        (["allow", "scout"], "Missing argument 'HOST[:PORT[,PORT]]...'."),
        (["why", "scout"], "Missing argument 'HOST[:PORT]'."),
        (["fly"], "No such command 'fly'."),
    ],
)
def test_a_bad_argument_is_one_clear_line(arguments: list[str], complaint: str, run: Shell) -> None:
    said = run("egress", *arguments)
    assert (said.code, said.out) == (errors.Invalid.exit_code, "")
    assert said.err.startswith(f"colony: {complaint}")
    assert len(said.err.splitlines()) == 1


def test_nothing_is_set_if_one_of_the_hosts_is_none(run: Shell, robin: str) -> None:
    assert run("egress", "allow", robin, "pypi.org", "a:b", token=ANN).code == errors.Invalid.exit_code
    assert robin not in run("egress", "list", robin).out


def test_only_its_owner_and_administrators_decide(run: Shell, robin: str) -> None:
    for agent in (robin, "agents"):
        said = run("egress", "allow", agent, "pypi.org", token=token_of("bob"))
        assert (said.code, said.out) == (errors.Forbidden.exit_code, "")
