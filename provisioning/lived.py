"""How an agent of this machine lives, as a soul would say it: its text, its settings, its record, its limits and what it watches."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from colony import egress, errors, files, operations, schema
from colony.bounds import DEFAULTS
from colony.config import PROJECT_FILE
from provisioning import home, local, places, stepdown
from provisioning.facts import Facts
from provisioning.record import Record
from provisioning.soul import MAX_BYTES, Limits, Soul

MAX_SETTINGS_BYTES = 2**20


@dataclass(frozen=True)
class Lived:
    soul: Soul  # nothing is left to others but limits that are not set
    settings_text: str  # of its .colony.toml
    settings: Mapping[str, Any]


def read(found: Facts) -> Lived:
    """Raises `NotFound` for an agent that doesn't live here, and `Invalid` where its settings are none."""
    known = found.resident  # first: of who doesn't live here, the rest would say odd things
    try:
        text = files.read(places.HOMES / found.name, PROJECT_FILE, MAX_SETTINGS_BYTES)
    except OSError as error:
        raise errors.Invalid(f"can't read the settings of {found.name}: {error}") from error
    settings = _parsed(found.name, text)
    watched = tuple(stepdown.as_user(found.name, _watched))
    limits = _limits(settings["agent"], _member(found.name), known)
    soul = Soul(_text(found.name), found.name, watched, limits=limits, egress=_allowed(found.name))
    return Lived(_thinking(soul, settings["agent"]), text, settings)


def _limits(agent: Mapping[str, Any], member: schema.Agent, known: Record) -> Limits:
    return Limits.model_construct(
        budget_usd_per_day=member.budget_usd_per_day,
        turns_per_hour=member.turns_per_hour,
        posts_per_turn=member.posts_per_turn,
        memory_max=known.memory_max_bytes,
        home_max=known.home_max_bytes,
        turn_timeout_seconds=_number(agent, "turn_timeout_seconds"),
    )


def _thinking(soul: Soul, agent: Mapping[str, Any]) -> Soul:
    sandbox, image = agent.get("sandbox", "bwrap"), agent.get("image", "")
    soul = replace(soul, pulse_minutes=_number(agent, "pulse_minutes"), sandbox=sandbox, image=image)
    if agent.get("runner", "claude") == "claude":
        return replace(soul, runner="claude", model=agent.get("model", ""))
    return replace(soul, runner="command", command=tuple(agent.get("command", ())))


def _number(agent: Mapping[str, Any], key: str) -> int:
    value: int = agent.get(key, DEFAULTS[key])
    return value


def _text(name: str) -> str:
    """Of what is too long for a soul, a little more than a soul may have."""
    try:
        said = files.read(places.HOMES / name, home.SOUL_FILE, MAX_BYTES + 1)
    except OSError:  # something odd
        return ""
    said = said.replace("\r\n", "\n").strip()
    return f"{said}\n" if said else ""


def _parsed(name: str, text: str) -> dict[str, Any]:
    file = places.HOMES / name / PROJECT_FILE
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.Invalid(f"can't read {file}: {error}") from error
    agent = found.get("agent")
    others = [value for key, value in found.items() if key != "agent"]
    if not isinstance(agent, dict) or not all(map(_is_plain, (*others, *agent.values()))):
        raise errors.Invalid(f"{file} holds no settings of an agent")
    return found


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _member(name: str) -> schema.Agent:
    with local.client() as client:
        return next(agent for agent in client.call(operations.AGENTS, schema.ListAgents()).agents if agent.username == name)


def _allowed(name: str) -> tuple[str, ...]:
    """What it may reach by rules of its own."""
    with local.client() as client:
        rules = client.call(operations.EGRESS_RULES, schema.ListEgress(agent=name)).rules
    return tuple(sorted(egress.joined(rule.host, rule.ports) for rule in rules if rule.agent == name and rule.effect == "allow"))


def _watched() -> list[str]:
    """What this user watches: the colony tells it to nobody else."""
    with local.client() as client:
        return sorted(channel.name for channel in client.call(operations.CHANNELS, schema.ListChannels()).channels if channel.watched)
