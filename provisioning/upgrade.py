"""Brings a living agent to the present release: its units and its rules. What doesn't come back goes back to the former ones."""

from __future__ import annotations

from provisioning import agents, birth, facts, home, places, renewal, units
from provisioning.apply import Tell, apply, silently
from provisioning.facts import Facts
from provisioning.renewal import IDLE_SECONDS
from provisioning.steps import Enable, Reload, Start, Step, WriteAs
from provisioning.systemd import Systemd

RESTART = "restart"  # the name of a step


def upgrade(name: str, tell: Tell = silently, *, idle_seconds: float = IDLE_SECONDS) -> list[Step]:
    """What was done; nothing where the agent runs the present release already.

    Raises `Unavailable` when the agent did not come back with it: it then runs as before.
    """
    with agents.alone(name), Systemd() as systemd:
        found = facts.read(name, systemd)
        worker = systemd.state(units.worker(name))
        steps = plan(found, worker.is_outdated, home.rules_in(places.HOMES / name))
        if any(step.name == RESTART for step in steps):
            renewal.carry_out(systemd, name, steps, renewal.former_units(found), tell, idle_seconds)
        else:
            apply(steps, tell)
        return steps


def plan(found: Facts, is_outdated: bool, rules: str) -> list[Step]:
    """What differs from the present release. Raises `NotFound` for an agent that was not born here."""
    changed = birth.changed_units(found, found.resident)
    steps = []
    if rules != home.RULES:
        written = WriteAs(found.name, places.HOMES / found.name, home.RULES_FILE, home.RULES)
        steps.append(Step("rules", "its rules", (written,)))
    if changed or is_outdated:
        lasting = units.lasting(found.name)
        steps.append(Step("units", "its units", (*changed, Reload(), Enable(lasting))))
        steps.append(Step(RESTART, "its worker", (Start(lasting, restart=True),)))
    return steps
