"""`colony-agent soul`: what can be said of a soul before anybody is born from it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provisioning.soul import Soul


@click.group()
def soul() -> None:
    """The files that agents are born from."""


@soul.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Write JSON.")
def check(file: Path, is_json: bool) -> None:
    """Say whether FILE is sound, and what it asks for. Exits 2 if it isn't."""
    from colony import show
    from provisioning import soul as souls

    found = _facts(souls.load(file))
    if is_json:
        print(json.dumps({"file": str(file), **found}))
    else:
        said = "; ".join(f"{key} {_worded(key, value)}" for key, value in _flat(found) if value not in (None, []))
        print(show.line(f"{file} is sound{f': {said}' if said else ''}"))


def _facts(soul: Soul) -> dict[str, object]:
    return {
        "name": soul.name,
        "runner": soul.runner,
        "command": list(soul.command),
        "model": soul.model,
        "watch": list(soul.watch),
        "limits": soul.limits.model_dump(),
        "pulse_minutes": soul.pulse_minutes,
    }


def _flat(facts: dict[str, object]) -> list[tuple[str, object]]:
    return [pair for key, value in facts.items() for pair in (value.items() if isinstance(value, dict) else [(key, value)])]


def _worded(key: str, value: object) -> str:
    from provisioning.soul import worded_bytes

    if isinstance(value, list):
        return shlex.join(value)
    if key in ("memory_max", "home_max") and isinstance(value, int):
        return worded_bytes(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
