"""`colony-agent doctor`: what is silently wrong here, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from colony import show

if TYPE_CHECKING:
    from provisioning.checks.finding import Finding
    from provisioning.doctor import Blind, Mended, Report

FOUND = 1  # the exit code


@click.command("doctor")
@click.argument("name", required=False)
@click.option("--fix", is_flag=True, help="Mend what can be mended without harm to data, users or running turns; then look again.")
@click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")
def doctor(name: str | None, fix: bool, is_json: bool) -> None:
    """Find what is silently wrong with this host and its agents, or with one of them, and say how to mend it.

    Exits 1 if it finds something, unless that is only a note: an agent that waits, and goes on by itself. Who is not root learns what
    could not be looked at.
    """
    from colony_agent.home_checks import CHECKS
    from provisioning import doctor as doctors
    from provisioning import facts
    from provisioning.show import Show

    if fix:
        facts.require_root()
    report, mended = doctors.examine(name, CHECKS), None
    if fix:
        report, mended = doctors.mend(report, lambda: doctors.examine(name, CHECKS), Show(is_json, is_dry=False).step)
    if is_json:
        click.echo(json.dumps(_document(report, mended)))
    else:
        _show(report, mended)
    if not report.is_well:
        raise click.exceptions.Exit(FOUND)


def _show(report: Report, mended: Mended | None) -> None:
    for finding, why in mended.failed if mended else ():
        _say(f"{finding.subject}: could not be mended: {why}")
    for blind in _told_once(report.blind):
        _say(blind)
    if not report.findings:
        click.echo(f"nothing found by {report.checks} checks")
        return
    for each in report.findings:
        click.echo(show.line(f"{each.subject}: {each.severity}: {each.what}"))
        click.echo(f"    {show.line(each.remedy)}")
    fixable = sum(finding.fix is not None for finding in report.findings)
    hint = f"; --fix mends {fixable} of them" if fixable and mended is None else ""
    count = len(report.findings)
    _say(f"{count} finding{'s' * (count != 1)} by {report.checks} checks{hint}")


def _told_once(blind: Sequence[Blind]) -> list[str]:
    """One line for all that could not be looked at for the same reason."""
    by_reason: dict[str, list[str]] = {}
    for each in blind:
        by_reason.setdefault(each.why, []).append(f"{each.subject} ({each.name})")
    return [f"not looked at: {', '.join(names)}: {why}" for why, names in by_reason.items()]


def _document(report: Report, mended: Mended | None) -> dict[str, object]:
    done = {"mended": [_finding(each) for each in mended.done]} if mended else {}
    failed = {"not_mended": [{**_finding(each), "why": why} for each, why in mended.failed]} if mended else {}
    blind = [{"subject": each.subject, "name": each.name, "why": each.why} for each in report.blind]
    return {"checks": report.checks, "findings": [_finding(each) for each in report.findings], "not_looked_at": blind, **done, **failed}


def _finding(found: Finding) -> dict[str, object]:
    shown = {"subject": found.subject, "severity": found.severity, "what": found.what, "remedy": found.remedy}
    return {**shown, "is_fixable": found.fix is not None}


def _say(text: str) -> None:
    click.echo(f"colony-agent: {show.line(text)}", err=True)
