"""Brings a living agent to the present release: its units and its rules. What doesn't come back goes back to the former ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from colony import errors, files
from provisioning import agents, birth, facts, home, places, status, units
from provisioning.apply import Tell, apply, silently
from provisioning.facts import Facts
from provisioning.steps import Enable, Reload, Start, Step, Write, WriteAs
from provisioning.systemd import Systemd

IDLE_SECONDS = 60.0  # that a running turn may take to end by itself; after that it is handed back, and goes on with the new worker
PROOF_SECONDS = 20.0  # within which the new worker must have reported to the colony
RESTART = "restart"  # the name of a step
RULES_MAX_BYTES = 65_536
_TICK_SECONDS = 0.1


def upgrade(name: str, tell: Tell = silently, *, idle_seconds: float = IDLE_SECONDS) -> list[Step]:
    """What was done; nothing where the agent runs the present release already.

    Raises `Unavailable` when the agent did not come back with it: it then runs as before.
    """
    with agents.alone(name), Systemd() as systemd:
        found = facts.read(name, systemd)
        steps = plan(found, systemd.state(units.worker(name)).is_outdated, _rules(name))
        if any(step.name == RESTART for step in steps):
            _restart(systemd, found, steps, tell, idle_seconds)
        else:
            apply(steps, tell)
        return steps


def plan(found: Facts, is_outdated: bool, rules: str) -> list[Step]:
    """What differs from the present release. Raises `NotFound` for an agent that was not born here."""
    if found.record is None or not found.is_born:
        raise errors.NotFound(f"{found.name} does not live on this machine; colony-agent birth brings it to life")
    wanted = birth.unit_files(found, found.record)
    changed = tuple(Write(places.UNITS / unit, text) for unit, text in wanted.items() if found.unit_files.get(unit) != text)
    steps = []
    if rules != home.RULES:
        written = WriteAs(found.name, places.HOMES / found.name, home.RULES_FILE, home.RULES)
        steps.append(Step("rules", "its rules", (written,)))
    if changed or is_outdated:
        lasting = (units.worker(found.name), units.dream_timer(found.name))
        steps.append(Step("units", "its units", (*changed, Reload(), Enable(lasting))))
        steps.append(Step(RESTART, "its worker", (Start(lasting, restart=True),)))
    return steps


def _restart(systemd: Systemd, found: Facts, steps: list[Step], tell: Tell, idle_seconds: float) -> None:
    assert found.record
    units.check(birth.unit_files(found, found.record))
    _await_idle(found.name, idle_seconds)
    began = datetime.now(UTC)
    try:
        apply(steps, tell)
        _prove(systemd, found.name, began)
    except errors.ColonyError as error:
        apply([_back(found)], tell)
        raise errors.Unavailable(f"{found.name} did not come back, and runs as before: {error.detail}") from error


def _rules(name: str) -> str:
    try:
        return files.read(places.HOMES / name, home.RULES_FILE, RULES_MAX_BYTES)
    except OSError:  # something odd, or nothing: it is replaced
        return ""


def _await_idle(name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while status.is_working(name) and time.monotonic() < deadline:
        time.sleep(_TICK_SECONDS)


def _prove(systemd: Systemd, name: str, began: datetime) -> None:
    """Raises `Unavailable` unless the worker stays up and reports."""
    deadline = time.monotonic() + PROOF_SECONDS
    while not status.heard_since(name, began):
        state = systemd.state(units.worker(name))
        if state.active == "failed" or time.monotonic() > deadline:
            raise errors.Unavailable(f"its worker is {state.active} and has not reported within {PROOF_SECONDS:g} s")
        time.sleep(_TICK_SECONDS)


def _back(found: Facts) -> Step:
    former = tuple(Write(places.UNITS / unit, text) for unit, text in found.unit_files.items())
    lasting = (units.worker(found.name), units.dream_timer(found.name))
    return Step("back", "its former units", (*former, Reload(), Start(lasting, restart=True)))
