"""How this machine's agents are: what systemd says of each, beside what the colony does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from colony import errors, operations, schema
from provisioning import local, record, units
from provisioning.systemd import Systemd, UnitState


@dataclass(frozen=True)
class Life:
    """One agent; `member` is None where the colony doesn't know it or doesn't answer."""

    name: str
    worker: UnitState
    dream: UnitState
    member: schema.Agent | None

    @property
    def state(self) -> str:
        return self.member.status if self.member else "?"

    @property
    def trouble(self) -> str:
        """What should be looked at, in a few words; empty while all is well."""
        found = [
            self._rest if self.worker.active != "active" and self.state == "healthy" else "",
            "its last dream failed" if self.dream.active == "failed" else "",
            "its units have changed: colony-agent restart" if self.worker.is_outdated else "",
            "it reports nothing" if self.member and self.member.silent_since else "",
            "something has waited for too long" if self.member and self.member.overdue_since else "",
            self.member.status_note if self.member else "",
        ]
        return "; ".join(filter(None, found))

    @property
    def _rest(self) -> str:
        why = f" ({self.worker.result})" if self.worker.active == "failed" else ""
        remedy = "restart" if self.worker.load == "loaded" else "upgrade"
        return f"its worker is {self.worker.active}{why}: colony-agent {remedy} {self.name}"


@dataclass(frozen=True)
class Overview:
    agents: list[Life]
    excuse: str = ""  # why the colony says nothing of them


def read(systemd: Systemd, name: str | None = None) -> Overview:
    """All agents of this machine, or the one of that name. Raises `NotFound` for one that does not live here."""
    members: dict[str, schema.Agent] = {}
    excuse = ""
    try:
        members = _members()
    except errors.ColonyError as error:
        excuse = error.detail
    here = sorted({*record.names(), *_with_units(systemd.named("agent-*-worker.service"))})
    if name is not None and name not in here:
        raise errors.NotFound(f"no agent {name} lives on this machine" + (f"; here live {', '.join(here)}" if here else ""))
    wanted = here if name is None else [name]
    lives = [Life(each, systemd.state(units.worker(each)), systemd.state(units.dream(each)), members.get(each)) for each in wanted]
    return Overview(lives, excuse)


def heard_since(name: str, moment: datetime) -> bool:
    """Whether the agent has reported to the colony after that moment."""
    found = _members().get(name)
    return found is not None and found.last_seen_at is not None and found.last_seen_at > moment


def is_working(name: str) -> bool:
    """Whether a turn of the agent runs."""
    found = _members().get(name)
    return found is not None and found.turn_id is not None


def _members() -> dict[str, schema.Agent]:
    with local.client() as client:
        return {agent.username: agent for agent in client.call(operations.AGENTS, schema.ListAgents()).agents}


def _with_units(found: Iterable[str]) -> list[str]:
    return [unit.removeprefix("agent-").removesuffix("-worker.service") for unit in found]
