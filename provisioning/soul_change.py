"""A change of soul: from how an agent lives and what a soul says to the steps in between, and their way back."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from colony import egress, errors, operations, schema, show
from colony.config import PROJECT_FILE
from provisioning import agents, birth, facts, home, lived, places, reach, renewal, soul_words, units
from provisioning.apply import Tell, apply, silently
from provisioning.facts import Facts
from provisioning.lived import Lived
from provisioning.record import Record
from provisioning.soul import Soul, over
from provisioning.steps import Act, Ask, Enable, Reload, Run, Start, Step, Stop, Write, WriteAs
from provisioning.systemd import Systemd

_OF_SETTINGS = ("runner", "command", "model", "sandbox", "image", "turn_timeout_seconds", "pulse_minutes")  # they stand in its home
_OF_LIMITS = ("budget_usd_per_day", "turns_per_hour", "posts_per_turn")  # the colony keeps them
START = "start"  # the name of a step


@dataclass(frozen=True)
class Change:
    steps: list[Step]
    diff: str  # of its text, fit for a terminal


def change(name: str, said: Soul, tell: Tell = silently, *, dry_run: bool = False) -> Change:
    """Bring a living agent to what a soul says; what the soul leaves to others stays. No steps: it lives so already.

    What can be known to fail is known before anything is changed. Raises `Unavailable` when the agent did not come back with it: it
    then runs as before. After an interruption another change completes it.
    """
    with agents.alone(name), Systemd() as systemd:
        found = facts.read(name, systemd)
        now = lived.read(found)
        steps = plan(found, now, said)
        if (command := over(now.soul, said).command) and command != now.soul.command:
            reach.require_runnable(command[0])
        if over(now.soul, said).sandbox == "podman":
            reach.require_podman()
        if not dry_run:
            _carry_out(systemd, found, now, steps, tell)
    return Change(steps, show.clean("\n".join(_diff(now.soul.text, said.text))))


def plan(found: Facts, now: Lived, said: Soul) -> list[Step]:
    """What is missing. What may fail comes first: a worker that doesn't come back leaves the rest as it was."""
    wanted = over(now.soul, said)
    _require_possible(found, now.soul, said, wanted)
    at_once = [_text(found, now.soul, wanted), _limits(found.name, now.soul, wanted), *_watches(found.name, now.soul, wanted)]
    at_once += _egress(found.name, now.soul, wanted)
    return [step for step in (*_anew(found, now, wanted), *at_once) if step]


def _carry_out(systemd: Systemd, found: Facts, now: Lived, steps: list[Step], tell: Tell) -> None:
    after = next((number for number, step in enumerate(steps, 1) if step.name == START), 0)
    if after:
        settings = WriteAs(found.name, places.HOMES / found.name, PROJECT_FILE, now.settings_text)
        former: list[Write | WriteAs] = [settings, Write(found.resident.path, found.resident.text), *renewal.former_units(found)]
        renewal.carry_out(systemd, found.name, steps[:after], former, tell, renewal.IDLE_SECONDS)
    apply(steps[after:], tell)


def _require_possible(found: Facts, before: Soul, said: Soul, wanted: Soul) -> None:
    if said.name not in (None, found.name):
        raise errors.Invalid(f"that is the soul of {said.name}, not of {found.name}: give another file, or change its `name`")
    if wanted.runner == "claude" and before.runner != "claude":
        birth.require_key(found)
    birth.require_channels(found, wanted.watch or ())


def _anew(found: Facts, now: Lived, wanted: Soul) -> list[Step | None]:
    """What takes a new worker. Nothing of the agent runs while its settings are replaced: a sandbox would show the new ones."""
    steps = [_settings(found, now, wanted), _units(found, now, wanted)]
    if not any(steps):
        return [birth.life_step(found)]
    rest = Step("stop", "that it rests meanwhile", (Stop(units.names(found.name)),))
    return [rest, *steps, Step(START, "its worker", (Start(units.lasting(found.name)),))]


def _settings(found: Facts, now: Lived, wanted: Soul) -> Step | None:
    changes = soul_words.changes(now.soul, wanted, *_OF_SETTINGS)
    if not changes:
        return None
    told = {key: value for key, value in soul_words.flat(wanted).items() if key in _OF_SETTINGS}
    told |= {"model": wanted.model, "sandbox": "" if wanted.sandbox == "bwrap" else wanted.sandbox}
    agent = {key: value for key, value in {**now.settings["agent"], **told}.items() if value not in (None, "", [])}
    connection = {key: value for key, value in now.settings.items() if key != "agent"}
    written = WriteAs(found.name, places.HOMES / found.name, PROJECT_FILE, home.settings(connection, agent))
    return _step("settings", f"its settings: {', '.join(changes)}", written)


def _units(found: Facts, now: Lived, wanted: Soul) -> Step | None:
    before = found.resident
    known = _record(before, wanted)
    # The units of a release from before there were containers let nobody make one.
    needs_new = wanted.sandbox == "podman" != now.soul.sandbox and bool(birth.changed_units(found, known))
    if known == before and not needs_new:
        return None
    kinds = [f"runner {before.runner} → {known.runner}"] if known.runner != before.runner else []
    rooms = soul_words.changes(now.soul, wanted, *soul_words.ROOMS, *(["sandbox"] if needs_new else []))
    # The record comes last: until then another change finds the units to be made.
    made: tuple[Act, ...] = (*birth.changed_units(found, known), Reload(), Enable(units.lasting(found.name)), Write(known.path, known.text))
    return _step("units", f"its units: {', '.join(kinds + rooms)}", *made)


def _record(before: Record, wanted: Soul) -> Record:
    memory_max, home_max = wanted.limits.memory_max or before.memory_max_bytes, wanted.limits.home_max or before.home_max_bytes
    return replace(before, runner=wanted.runner or before.runner, memory_max_bytes=memory_max, home_max_bytes=home_max)


def _text(found: Facts, before: Soul, wanted: Soul) -> Step | None:
    """The home's history gets the former text, too, if somebody has changed it by hand."""
    if before.text == wanted.text:
        return None
    marks = [line[0] for line in _diff(before.text, wanted.text)[2:]]
    written = WriteAs(found.name, places.HOMES / found.name, home.SOUL_FILE, wanted.text, in_place=True)
    says = f"its text: +{marks.count('+')} -{marks.count('-')} lines"
    return _step("soul", says, _kept(found, "As it was before its soul changed"), written, _kept(found, "Its soul changed"))


def _kept(found: Facts, message: str) -> Run:
    """A commit of the home's texts, by the agent's own code: git must be kept in a sandbox there."""
    return Run((f"{found.release}/.venv/bin/colony-agent", "keep", message), user=found.name)


def _limits(name: str, before: Soul, wanted: Soul) -> Step | None:
    changes = soul_words.changes(before, wanted, *_OF_LIMITS)
    if not changes:
        return None
    was, is_wanted = before.limits.model_dump(), wanted.limits.model_dump()
    different = {key: is_wanted[key] for key in _OF_LIMITS if was[key] != is_wanted[key]}
    request = schema.SetLimits.model_validate({"agent": name, **different})
    return _step("limits", f"its limits: {', '.join(changes)}", Ask(operations.SET_LIMITS, request))


def _watches(name: str, before: Soul, wanted: Soul) -> list[Step | None]:
    was, will = before.watch or (), wanted.watch or ()
    more = [channel for channel in will if channel not in was]
    less = [channel for channel in was if channel not in will]
    asks = (Ask(operations.UNWATCH, schema.UnwatchChannel(channel=channel), user=name) for channel in less)
    return [
        birth.watch_step(name, more) if more else None,
        _step("unwatch", f"that it no longer watches {', '.join(less)}", *asks) if less else None,
    ]


def _egress(name: str, before: Soul, wanted: Soul) -> list[Step | None]:
    was, will = before.egress or (), wanted.egress or ()
    more = [target for target in will if target not in was]
    hosts = [egress.split(target)[0] for target in will]
    less = [host for host, _ in map(egress.split, was) if host not in hosts]
    asks = (Ask(operations.DROP_EGRESS, schema.DropEgress(agent=name, host=host), settles=errors.NotFound) for host in less)
    return [
        birth.egress_step(name, more) if more else None,
        _step("no egress", f"that it no longer may reach {', '.join(less)}", *asks) if less else None,
    ]


def _diff(before: str, after: str) -> list[str]:
    names = f"{home.SOUL_FILE} now", f"{home.SOUL_FILE} then"
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm=""))


def _step(name: str, says: str, *acts: Act) -> Step:
    return Step(name, show.line(says), acts)  # somebody may have written anything into the settings
