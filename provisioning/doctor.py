"""Looks for everything that can be silently wrong with this host's colony and its agents, and mends what can be mended without harm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from colony import errors
from provisioning import agents, places, record
from provisioning.apply import Tell, apply
from provisioning.checks import (
    account,
    agent_units,
    code,
    firewall,
    folders,
    gate,
    home,
    host_units,
    keys,
    member,
    members,
    process,
    resident,
    scene,
    server,
    surroundings,
    tools,
)
from provisioning.checks.finding import HOST, Check, Finding, Findings, Unseen
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.host import files
from provisioning.host.alone import alone as alone_on_host
from provisioning.steps import Step

ROUNDS = 3  # what is mended may bring to light what can be mended next

OfHost = Callable[[Scene], Findings]
OfAgent = Callable[[Scene, Resident], Findings]

HOST_CHECKS: tuple[tuple[str, OfHost], ...] = (
    ("systemd", surroundings.manager),
    ("its accounts", folders.accounts),
    ("its folders", folders.folders),
    ("its settings", folders.settings),
    ("its records", folders.records),
    ("its release", code.release),
    ("who may change its code", code.safety),
    ("its commands", code.commands),
    ("its unit files", host_units.files_as_made),
    ("who may change its units", host_units.safety),
    ("its units", host_units.life),
    ("its units' exposure", host_units.exposure),
    ("the server's settings", server.settings),
    ("the server's answer", server.answer),
    ("the server's socket", server.socket),
    ("the server's database", server.database),
    ("the server's keys", server.keys),
    ("the server's network", firewall.of_server),
    ("the gate's answer", gate.answer),
    ("the gate's socket", gate.socket),
    ("the gate in the colony", gate.member),
    ("the gate's network", firewall.of_gate),
    ("kept credentials", keys.stored),
    ("the gate's credentials", keys.delivered),
    ("its disks", surroundings.disks),
    ("its backups", surroundings.backups),
    ("its clock", surroundings.clock),
    ("the clock's way", surroundings.jump),
    ("the colony's members", members.strays),
)
SHARED_CHECKS: tuple[tuple[str, Callable[[Scene, Sequence[Resident]], Findings]], ...] = (
    ("bubblewrap", tools.sandbox),
    ("Claude Code", tools.claude),
    ("all agents' limits in the kernel", process.together),
)
AGENT_CHECKS: tuple[tuple[str, OfAgent], ...] = (
    ("its record", resident.understood),
    ("its Linux user", account.user),
    ("its password", account.password),
    ("its home", home.folder),
    ("what is in its home", home.contents),
    ("how much is in its home", home.size),
    ("its rules", home.rules),
    ("its key", keys.present),
    ("its unit files", agent_units.files_as_made),
    ("its release", agent_units.release),
    ("its units", agent_units.life),
    ("its units' exposure", agent_units.exposure),
    ("its unit's age", agent_units.age),
    ("its process' privileges", process.privileges),
    ("what its process sees", process.view),
    ("its limits in the kernel", process.limits),
    ("the code of its process", process.code),
    ("itself in the colony", member.known),
)


@dataclass(frozen=True)
class Blind:
    """What could not be looked at, and why."""

    subject: str
    name: str
    why: str


@dataclass(frozen=True)
class Report:
    checks: int = 0  # that were made
    findings: tuple[Finding, ...] = ()
    blind: tuple[Blind, ...] = ()

    @property
    def is_well(self) -> bool:
        """Nothing waits for a person."""
        return all(finding.severity == "note" for finding in self.findings)


@dataclass
class Mended:
    """What was done about findings, and what could not be."""

    done: list[Finding] = field(default_factory=list)
    failed: list[tuple[Finding, str]] = field(default_factory=list)


def examine(name: str | None = None, more: Sequence[tuple[str, OfAgent]] = ()) -> Report:
    """All that is wrong with the host and its agents, or with the one of that name; as far as the caller may look.

    `more` are checks of agents that only their own code can make. Raises `NotFound` where nothing speaks of such an agent.
    """
    if name is not None:
        record.checked_name(name)
    with scene.read() as seen:
        if name is None and not _is_installed():
            return Report(1, (Finding(HOST, "no colony is installed on this machine", code.INSTALL),))
        everyone = resident.read(seen)
        if name is not None and name not in {each.name for each in everyone}:
            raise errors.NotFound(f"nothing on this machine speaks of an agent {name}")
        return _made(_checks(seen, everyone, name, more))


def mend(report: Report, examine_again: Callable[[], Report], tell: Tell) -> tuple[Report, Mended]:
    """Carry out the fixes; with what is found afterwards. One that fails keeps no other from being tried."""
    mended, tried = Mended(), set[Step]()
    for _ in range(ROUNDS):
        due = [finding for finding in report.findings if finding.fix and finding.fix not in tried]
        if not due:
            break
        for finding in due:
            _mend(finding, mended, tried, tell)
        report = examine_again()
    return report, mended


def _checks(seen: Scene, everyone: Sequence[Resident], name: str | None, more: Sequence[tuple[str, OfAgent]]) -> Iterator[Check]:
    """In the order in which what they find is to be mended."""
    if name is None:
        yield from (Check(HOST, what, partial(look, seen)) for what, look in HOST_CHECKS)
        yield from (Check(HOST, what, partial(look, seen, everyone)) for what, look in SHARED_CHECKS)
    for each in everyone:
        if name in (None, each.name):
            yield Check(each.name, "whether it lives", partial(resident.whole, each))
            if (each.is_born or each.is_ready) and not agents.is_changing(each.name):
                yield from (Check(each.name, what, partial(look, seen, each)) for what, look in (*AGENT_CHECKS, *more))


def _made(checks: Iterator[Check]) -> Report:
    count, findings, blind = 0, list[Finding](), list[Blind]()
    for check in checks:
        try:
            findings += check.look()
            count += 1
        except (Unseen, errors.ColonyError, OSError) as error:
            blind.append(Blind(check.subject, check.name, "only root may look" if isinstance(error, PermissionError) else str(error)))
    return Report(count, tuple(findings), tuple(blind))


def _mend(finding: Finding, mended: Mended, tried: set[Step], tell: Tell) -> None:
    if finding.fix is None or finding.fix in tried:
        return
    tried.add(finding.fix)
    try:
        with alone_on_host() if finding.subject == HOST else agents.alone(finding.subject):
            apply([finding.fix], tell)
        mended.done.append(finding)
    except errors.ColonyError as error:
        mended.failed.append((finding, error.detail))


def _is_installed() -> bool:
    return any(os.path.lexists(path) for path in (places.CURRENT, places.SETTINGS, places.DATA, places.UNITS / files.SERVER))
