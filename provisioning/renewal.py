"""Gives a living agent a new worker, and the former one where the new one doesn't come up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from colony import errors, files
from provisioning import agents, found, places, status, units
from provisioning.apply import Tell, apply
from provisioning.facts import Facts
from provisioning.steps import Reload, Start, Step, Write, WriteAs
from provisioning.systemd import Systemd

IDLE_SECONDS = 60.0  # that a running turn may take to end by itself; after that it is handed back, and goes on with the new worker
PROOF_SECONDS = 20.0  # within which the new worker must have reported to the colony
_TICK_SECONDS = 0.1


Former = Sequence[Write | WriteAs]  # what brings back how it was


def carry_out(systemd: Systemd, name: str, steps: Sequence[Step], former: Former, tell: Tell, idle_seconds: float) -> None:
    """Do the steps, of which one starts the worker.

    Raises `Unavailable` when it did not come back; it then runs as before.
    """
    units.check(agents.unit_files(steps))
    _await_idle(name, idle_seconds)
    began = datetime.now(UTC)
    try:
        apply(steps, tell)
        _prove(systemd, name, began)
    except errors.ColonyError as error:
        _go_back(name, former, tell)
        raise errors.Unavailable(f"{name} did not come back, and runs as before: {error.detail}") from error
    except KeyboardInterrupt:
        _go_back(name, former, tell)
        raise


def former_units(facts: Facts) -> list[Write]:
    """What brings back the unit files that there were."""
    return [Write(places.UNITS / unit, text) for unit, text in facts.unit_files.items()]


def _go_back(name: str, former: Former, tell: Tell) -> None:
    """Raises `Unavailable` when not even that works."""
    changed = (act for act in former if not _is_so(act))
    back = Step("back", "what it was before", (*changed, Reload(), Start(units.lasting(name), restart=True)))
    try:
        apply([back], tell)
    except errors.ColonyError as error:
        raise errors.Unavailable(f"{name} is down: it came back neither with the change nor as before: {error.detail}") from error


def _is_so(act: Write | WriteAs) -> bool:
    """Whether the act would change nothing: then a full disk can't keep the worker from its return."""
    if isinstance(act, Write):
        return found.is_so(act, found.look([act.path]))
    try:
        return files.read(act.folder, act.name, found.MAX_BYTES) == act.text
    except OSError:
        return False


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
