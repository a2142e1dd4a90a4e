"""Each thing that can be silently wrong with a host is done to a real one: doctor finds it and nothing else, and its remedy works."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from provisioning import places
from tests.guest.guest import Guest
from tests.host.ailments import KEY, ROUNDS, Ailment
from tests.host.cast import answer, birth, messages, prepare

FULL = f"The disk of {places.DATA}"


@pytest.fixture
def host(machine: Guest) -> Guest:
    """Scout lives here, who is a small program, and thinker, who would think with Claude Code."""
    prepare(machine)
    machine.run("useradd", "--create-home", "human")
    birth(machine, "scout", "--memory-max", "256M")
    answer(machine, messages(machine)[0]["id"])  # the welcome; from now on it has nothing to do
    machine.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin=KEY)
    machine.write("/opt/brains/thinker.md", "---\nrunner: claude\npulse_minutes: 0\n---\nThink.\n")
    birth(machine, "thinker", soul="/opt/brains/thinker.md")
    machine.run("colony-agent", "pause", "thinker")  # its key opens nothing: its first message would be overdue one day
    return machine


def doctor(host: Guest, *options: str, command: str = "colony-agent", **more: Any) -> dict[str, Any]:
    """What it says, with an exit code that fits."""
    ran = host.run(command, "doctor", "--json", *options, check=False, **more)
    assert ran.stdout, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == (1 if any(finding["severity"] != "note" for finding in said["findings"]) else 0)
    # How full the disk is that the tests run on is none of their business.
    said["findings"] = [finding for finding in said["findings"] if not finding["what"].startswith(FULL)]
    return said


def require(findings: list[dict[str, Any]], expected: Iterable[str]) -> None:
    """Exactly these, in any order."""
    told = sorted(f"{finding['subject']}: {finding['what']}" for finding in findings)
    missing = list(expected)
    for line in list(told):
        if words := next((words for words in missing if line.startswith(words)), None):
            missing.remove(words)
            told.remove(line)
    assert not told + missing, f"found, but not expected: {told}; expected, but not found: {missing}"


@pytest.mark.parametrize("ailments", ROUNDS.values(), ids=ROUNDS)
@pytest.mark.timeout(600)
def test_what_is_wrong_is_found_and_each_remedy_works(host: Guest, ailments: dict[str, Ailment]) -> None:
    everything = [line for each in ailments.values() for line in each.finds]
    mendable = [each for each in ailments.values() if each.fix]
    require(doctor(host)["findings"], [])
    suffer(host, ailments.values())
    findings = doctor(host)["findings"]
    require(findings, everything)
    if mendable:
        said = doctor(host, "--fix")
        assert said["not_mended"] == [], said["not_mended"]
        require(said["findings"], [line for each in ailments.values() for line in (each.left if each.fix else each.finds)])
        suffer(host, mendable)
        findings = doctor(host)["findings"]
        require(findings, everything)
    for each in ailments.values():
        heal(host, each, findings)
    require(doctor(host)["findings"], [])


def suffer(host: Guest, ailments: Iterable[Ailment]) -> None:
    for each in ailments:
        host.run("sh", "-c", each.break_it, check=False)


def heal(host: Guest, ailment: Ailment, findings: list[dict[str, Any]]) -> None:
    told = {f"{finding['subject']}: {finding['what']}": finding["remedy"] for finding in findings}
    remedies = [next(remedy for line, remedy in told.items() if line.startswith(words)) for words in ailment.finds]
    for remedy in [ailment.undo] if ailment.undo else remedies:
        host.run("sh", "-c", remedy, stdin=ailment.stdin)
