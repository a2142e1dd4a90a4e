"""What a look at a host and its agents brings to light."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from provisioning.steps import Step

HOST = "host"
Severity = Literal["broken", "warning", "note"]  # what does not work or protect; what soon may not; what waits, and goes on by itself


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    subject: str  # HOST, or an agent's name
    what: str
    remedy: str  # a command, or what to do
    severity: Severity = "broken"
    fix: Step | None = None  # where mending it is harmless


Findings = Iterator[Finding]


class Unseen(Exception):
    """Why something could not be looked at."""


@dataclass(frozen=True)
class Check:
    """One thing to look at. Looking may raise `Unseen`, `OSError` or a `ColonyError`: then nobody knows."""

    subject: str
    name: str  # of the thing
    look: Callable[[], Findings]
