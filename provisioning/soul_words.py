"""A soul's keys in words: for people, for scripts, and as the front matter of a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import yaml

from provisioning.soul import OWN_CHOICE, Soul, worded_bytes, worded_sandbox

ROOMS = ("memory_max", "home_max")  # in bytes; the host keeps them


def keys(soul: Soul) -> dict[str, object]:
    """What the soul says, by its keys; None: nothing."""
    return {
        "name": soul.name,
        "runner": soul.runner,
        "command": list(soul.command),
        "model": OWN_CHOICE if soul.model == "" else soul.model,
        "sandbox": soul.sandbox,
        "image": soul.image or None,
        "watch": None if soul.watch is None else list(soul.watch),
        "egress": None if soul.egress is None else list(soul.egress),
        "limits": soul.limits.model_dump(),
        "pulse_minutes": soul.pulse_minutes,
    }


def flat(soul: Soul) -> dict[str, object]:
    """The same, with those of its limits among them."""
    return {key: value for outer in keys(soul).items() for key, value in (outer[1].items() if isinstance(outer[1], dict) else [outer])}


def worded(key: str, value: object) -> str:
    """A key's value for people."""
    if isinstance(value, list):
        return shlex.join(value) or "none"
    if key in ROOMS and isinstance(value, int):
        return worded_bytes(value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def changes(before: Soul, after: Soul, *which: str) -> list[str]:
    """How those keys differ, such as `pulse_minutes 30 → 0`."""
    was, is_now = flat(before), flat(after)
    return [f"{key} {worded(key, was[key])} → {worded(key, is_now[key])}" for key in which if was[key] != is_now[key]]


def written(soul: Soul) -> str:
    """The file from which `soul.load` reads the same soul."""
    limits = soul.limits.model_dump(exclude_none=True)
    limits |= {key: worded_bytes(limits[key]) for key in ROOMS if key in limits}
    said = {
        "name": soul.name,
        "watch": None if soul.watch is None else list(soul.watch),
        "egress": None if soul.egress is None else list(soul.egress),
        "runner": f"command:{shlex.join(soul.command)}" if soul.runner == "command" else soul.runner,
        "model": OWN_CHOICE if soul.model == "" else soul.model,
        "sandbox": None if soul.sandbox in (None, "none") else worded_sandbox(soul.sandbox, soul.image),
        "limits": limits or None,
        "pulse_minutes": soul.pulse_minutes,
    }
    return f"---\n{_yaml({key: value for key, value in said.items() if value is not None})}---\n{soul.text}"


def _yaml(said: Mapping[str, object]) -> str:
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, default_flow_style=False, width=float("inf")) if said else ""
