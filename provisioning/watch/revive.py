"""Starts services that systemd has given up, with growing pauses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from colony import files

PAUSES = (60.0, 300.0, 900.0)  # seconds; the last one again and again
FORGET_SECONDS = 3600.0  # after which a service that lives is as if it had never failed
MEMORY = Path("/run/colony-watch")  # root's, and gone after a boot
FILE = "revived.json"
_REVIVED = re.compile(r"colony-(server|egress)\.service|agent-[a-z0-9-]+-worker\.service")
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Past:
    """When a service was last seen to have failed, or started; and how often it was started."""

    at: float  # seconds since the boot
    times: int = 0


def plan(past: dict[str, Past], failed: Iterable[str], now: float) -> tuple[list[str], dict[str, Past]]:
    """Which services to start now, and what is to be remembered of all."""
    down = {unit for unit in failed if _REVIVED.fullmatch(unit)}
    known = {unit: each for unit, each in past.items() if unit in down or now - each.at < FORGET_SECONDS}
    known |= {unit: Past(now) for unit in down - known.keys()}
    due = sorted(unit for unit in down if now - known[unit].at >= PAUSES[min(known[unit].times, len(PAUSES) - 1)])
    return due, known | {unit: Past(now, known[unit].times + 1) for unit in due}


def remembered() -> dict[str, Past]:
    try:
        found = json.loads(files.read(MEMORY, FILE, _MAX_BYTES) or "{}")
        return {unit: Past(**each) for unit, each in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # then every service begins anew
        return {}


def remember(past: dict[str, Past]) -> None:
    files.write(MEMORY, FILE, json.dumps({unit: asdict(each) for unit, each in past.items()}))
