"""An agent as the colony knows it."""

from __future__ import annotations

from datetime import datetime

from colony import failures, schema
from provisioning import credentials, places
from provisioning.checks.finding import Finding, Findings
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene


def known(scene: Scene, resident: Resident) -> Findings:
    """Whether the colony takes it for who it is, hears from it, and gets its answers."""
    member = scene.colony.users.get(resident.name)
    if member is None or not resident.is_born:
        return
    yield from identity(member)
    if agent := scene.colony.agents.get(resident.name):
        yield from contact(agent)


def identity(member: schema.User) -> Findings:
    name = member.username
    if member.kind != "agent":
        yield Finding(name, f"{name} is one of the colony's {member.kind}s, so it can't be an agent's name", f"colony-agent death {name}")
    elif member.linux_user != name:
        known = f"knows {name} as the Linux user {member.linux_user}" if member.linux_user else f"does not know {name} by its Linux user"
        remedy = f"restore a copy of the colony's database in which it is right: see {places.DATA}/backups"
        yield Finding(name, f"the colony {known}, so its worker is a stranger there", remedy)
    elif member.status == "provisioning":
        yield Finding(name, "the colony does not let it work yet", f"colony resume {name}")


def contact(agent: schema.Agent) -> Findings:
    name = agent.username
    if agent.silent_since:
        what = f"the colony has not heard from it since {agent.silent_since:%Y-%m-%d %H:%M} UTC; colony-agent logs {name} says more"
        yield Finding(name, what, f"colony-agent restart {name}")
    if agent.held_until:
        yield held(name, agent.status_note, agent.held_until)
    elif agent.overdue_since:
        what = f"something has waited for it for too long, since {agent.overdue_since:%Y-%m-%d %H:%M} UTC; colony agents says what it does"
        yield Finding(name, what, f"colony-agent restart {name}", "warning")


def held(name: str, note: str, until: datetime) -> Finding:
    """Why an agent is not given turns, as the colony has noted it. A key that was rejected lets nobody in later either; all else ends."""
    reason, _, remedy = note.rpartition(failures.HELPS)
    if reason.startswith(failures.CREDENTIALS_REJECTED.says):
        renewed = f"colony-agent credential set {credentials.KEYS[0]}"
        return Finding(name, f"it can't think: {reason}", f"{renewed}; colony resume {name}")
    end = f"{until:%Y-%m-%d %H:%M} UTC"
    return Finding(name, f"it has to wait until {end}: {reason.removesuffix(f', until {end}')}", remedy, "note")
